//! Line charts as SVG. Colours are classes of the page's style, so that a chart is light or dark
//! with the page. Every point tells its value when it is pointed at.

use std::fmt::Write;

use crate::words::escape;

/// The picture's size, in its own units; the page scales it.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 320.0;

/// Room for the labels of the axes.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;

/// Colours that the style has. Further lines begin anew.
pub const COLOURS: usize = 6;

/// Points of a line that tell their value; with more they would lie on one another.
const MAX_HINTS: usize = 150;

/// Steps between the lines of a grid that read well, as multiples of a power of ten.
const ROUND_STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// How an axis places its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By magnitude; values must be above zero.
    Log,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What it shows, with the unit where [`Self::label`] gives none.
    pub title: &'static str,
    /// How it places its values.
    pub scale: Scale,
    /// A value in words.
    pub label: fn(f64) -> String,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// Whole.
    Solid,
    /// In dashes.
    Dashed,
    /// In dots.
    Dotted,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// The number of its colour.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Its points from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart. Points that an axis cannot place are left out.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The axis along the bottom.
    pub x: Axis,
    /// The axis along the left.
    pub y: Axis,
    /// The lines, of which later ones lie above earlier ones.
    pub lines: Vec<Line>,
}

impl Chart {
    /// The chart with its legend, or nothing when it has no point to show.
    pub fn render(&self) -> String {
        let Some((x, y)) = self.spans() else {
            return String::new();
        };
        let mut out = String::from("<div class=\"chart\">");
        self.legend(&mut out);
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over {}\">",
            escape(self.y.title),
            escape(self.x.title)
        );
        for at in y.ticks() {
            let height = y.place(at);
            let right = WIDTH - RIGHT;
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {height:.1}H{right}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                height + 4.0,
                escape(&(self.y.label)(at))
            );
        }
        for at in x.ticks() {
            let along = x.place(at);
            let bottom = HEIGHT - BOTTOM;
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{along:.1} {TOP}V{bottom}\"/>\
                 <text x=\"{along:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                escape(&(self.x.label)(at))
            );
        }
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(self.x.title)
        );
        for line in &self.lines {
            self.draw(line, x, y, &mut out);
        }
        out.push_str("</svg></div>\n");
        out
    }

    fn legend(&self, out: &mut String) {
        out.push_str("<div class=\"legend\">");
        for line in &self.lines {
            let _ = write!(
                out,
                "<span><svg viewBox=\"0 0 28 10\"><path class=\"{}\" d=\"M1 5H27\"/></svg>{}</span>",
                class(line),
                escape(&line.name)
            );
        }
        let _ = write!(out, "<span class=\"unit\">{}</span>", escape(self.y.title));
        out.push_str("</div>");
    }

    fn draw(&self, line: &Line, x: Span, y: Span, out: &mut String) {
        let shown: Vec<_> = self.shown(line).collect();
        let mut path = String::new();
        for (number, &(along, up)) in shown.iter().enumerate() {
            let command = if number == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", x.place(along), y.place(up));
        }
        let _ = write!(out, "<path class=\"{}\" d=\"{path}\"/>", class(line));
        let every = shown.len().div_ceil(MAX_HINTS).max(1);
        for (number, &(along, up)) in shown.iter().enumerate().step_by(every) {
            if shown.len() == 1 && number == 0 {
                let colour = line.colour % COLOURS;
                let (x, y) = (x.place(along), y.place(up));
                let _ = write!(
                    out,
                    "<circle class=\"dot f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
                );
            }
            let _ = write!(
                out,
                "<circle class=\"hit\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"6\"><title>{}: {} at {}</title></circle>",
                x.place(along),
                y.place(up),
                escape(&line.name),
                escape(&(self.y.label)(up)),
                escape(&(self.x.label)(along))
            );
        }
    }

    fn shown<'a>(&self, line: &'a Line) -> impl Iterator<Item = (f64, f64)> + Clone + use<'a> {
        let (x, y) = (self.x.scale, self.y.scale);
        let points = line.points.iter().copied();
        points.filter(move |&(along, up)| x.can_place(along) && y.can_place(up))
    }

    fn spans(&self) -> Option<(Span, Span)> {
        let points = || self.lines.iter().flat_map(|line| self.shown(line));
        let x = Span::of(self.x.scale, points().map(|(along, _)| along))?;
        let y = Span::of(self.y.scale, points().map(|(_, up)| up))?;
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        Some((x.onto(LEFT, right), y.rounded().onto(bottom, TOP)))
    }
}

fn class(line: &Line) -> String {
    let stroke = match line.stroke {
        Stroke::Solid => "",
        Stroke::Dashed => " thin",
        Stroke::Dotted => " faint",
    };
    format!("mark s{}{stroke}", line.colour % COLOURS)
}

impl Scale {
    fn can_place(self, value: f64) -> bool {
        value.is_finite() && (self == Self::Linear || value > 0.0)
    }
}

/// The values that an axis shows, and where on the picture.
#[derive(Clone, Copy, Debug)]
struct Span {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Span {
    fn of(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let high = values.clone().max_by(f64::total_cmp)?;
        let low = match scale {
            Scale::Linear => 0.0,
            Scale::Log => values.min_by(f64::total_cmp)?,
        };
        let high = match scale {
            Scale::Linear if high <= low => low + 1.0,
            Scale::Log if high <= low => low * 2.0,
            _ => high,
        };
        Some(Self {
            scale,
            low,
            high,
            from: 0.0,
            to: 1.0,
        })
    }

    /// Grown until both ends are round values, so that no line touches the frame.
    fn rounded(self) -> Self {
        match self.scale {
            Scale::Linear => {
                let step = linear_step(self.high);
                let high = ((self.high * 1.02) / step).ceil() * step;
                Self { high, ..self }
            }
            Scale::Log => {
                let magnitude = |value: f64| 10_f64.powf(value.log10().floor());
                let (low, high) = (magnitude(self.low), magnitude(self.high));
                let below = ROUND_STEPS.iter().rev().map(|step| step * low);
                let above = ROUND_STEPS.iter().chain(&[10.0]).map(|step| step * high);
                Self {
                    low: below.into_iter().find(|at| *at <= self.low).unwrap_or(low),
                    high: above
                        .into_iter()
                        .find(|at| *at >= self.high)
                        .unwrap_or(high * 10.0),
                    ..self
                }
            }
        }
    }

    fn onto(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = linear_step(self.high);
                let count = ((self.high - self.low) / step + 1e-9).floor() as u32;
                (0..=count)
                    .map(|n| self.low + f64::from(n) * step)
                    .collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10();
                let steps = match decades {
                    ..3.5 => &ROUND_STEPS[..],
                    _ => &ROUND_STEPS[..1],
                };
                let first = self.low.log10().floor() as i32;
                let last = self.high.log10().ceil() as i32;
                let all = (first..=last)
                    .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
                let slack = 1.0 + 1e-9;
                all.filter(|at| *at * slack >= self.low && *at <= self.high * slack)
                    .collect()
            }
        }
    }
}

/// The distance of a linear axis' grid lines: five to twelve of them.
fn linear_step(high: f64) -> f64 {
    let rough = high / 6.0;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let steps = ROUND_STEPS
        .iter()
        .chain(&[10.0])
        .map(|step| step * magnitude);
    steps
        .into_iter()
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(magnitude * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(scale: Scale, values: &[f64]) -> Span {
        let span = Span::of(scale, values.iter().copied()).expect("there are values");
        span.rounded().onto(0.0, 100.0)
    }

    #[test]
    fn linear_axes_begin_at_zero_and_end_round() {
        let span = span(Scale::Linear, &[38.0, 87.0]);
        assert_eq!(span.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(span.place(50.0), 50.0);
    }

    #[test]
    fn logarithmic_axes_keep_their_values_inside() {
        let span = span(Scale::Log, &[130.0, 4_900.0]);
        assert_eq!((span.low, span.high), (100.0, 5_000.0));
        let ticks: Vec<f64> = span.ticks().iter().map(|at| at.round()).collect();
        assert_eq!(ticks, [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0]);
        assert!(span.place(130.0) > 0.0 && span.place(4_900.0) < 100.0);
        let wide = self::span(Scale::Log, &[1.0, 1e6]);
        assert_eq!(wide.ticks().len(), 7, "a wide axis has only its decades");
    }

    #[test]
    fn equal_values_still_have_an_axis() {
        for scale in [Scale::Linear, Scale::Log] {
            let span = span(scale, &[7.0]);
            assert!(span.place(7.0).is_finite());
            assert!(span.ticks().len() >= 2, "{scale:?}: {:?}", span.ticks());
        }
        assert!(span(Scale::Linear, &[0.0]).place(0.0).is_finite());
    }

    #[test]
    fn what_cannot_be_placed_is_left_out() {
        let axis = |scale| Axis {
            title: "t",
            scale,
            label: |value| value.to_string(),
        };
        let line = Line {
            name: "a & b".to_owned(),
            colour: 7,
            stroke: Stroke::Solid,
            points: vec![(0.0, 1.0), (1.0, 0.0), (2.0, 10.0), (3.0, f64::NAN)],
        };
        let chart = Chart {
            x: axis(Scale::Linear),
            y: axis(Scale::Log),
            lines: vec![line],
        };
        let svg = chart.render();
        assert!(svg.contains("a &amp; b"));
        assert!(svg.contains("class=\"mark s1\""), "colours begin anew");
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let nothing = Chart {
            lines: Vec::new(),
            ..chart
        };
        assert_eq!(nothing.render(), "");
    }
}
