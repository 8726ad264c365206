//! A terminal that is drawn over again and again, and given back as it was.

use std::io::{self, IsTerminal as _, Write as _};

use console::{Key, Term};
use tokio::sync::mpsc;

use crate::cli::exit::Failure;

/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// To the upper left corner; what is left of a line; what is left of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// See the module's documentation.
pub(super) struct Screen {
    term: Term,
    keys: mpsc::Receiver<Pressed>,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    /// To end.
    Quit,
}

impl Screen {
    /// Takes the terminal over, if there is one.
    pub(super) fn open() -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let (pressed, keys) = mpsc::channel(1);
        let input = Term::stdout();
        // It ends with the key that ends all, or with the process.
        std::thread::spawn(move || {
            while let Ok(key) = input.read_key() {
                if matches!(key, Key::Char('q' | 'Q') | Key::Escape) {
                    // Nobody may listen any more.
                    let _ = pressed.blocking_send(Pressed::Quit);
                    return;
                }
            }
        });
        let screen = Self {
            term: Term::stdout(),
            keys,
        };
        screen.put(ENTER).ok()?;
        Some(screen)
    }

    /// Shows a text, cut to the size of the terminal.
    pub(super) fn show(&mut self, text: &str) -> Result<(), Failure> {
        let (height, width) = self.term.size();
        let (height, width) = (usize::from(height), usize::from(width));
        let mut frame = String::from(HOME);
        for line in text.lines().take(height.saturating_sub(1)) {
            frame.extend(line.chars().take(width));
            frame.push_str(REST_OF_LINE);
            frame.push_str("\r\n");
        }
        frame.push_str(REST_OF_SCREEN);
        self.put(&frame)
            .map_err(|error| Failure::from_stdout(&error))
    }

    /// Waits for a key that means something.
    pub(super) async fn pressed(&mut self) -> Pressed {
        match self.keys.recv().await {
            Some(pressed) => pressed,
            // Without a keyboard there is still Ctrl-C.
            None => std::future::pending().await,
        }
    }

    fn put(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody to tell if the terminal is gone.
        let _ = self.put(LEAVE);
    }
}
