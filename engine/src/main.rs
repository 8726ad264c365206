//! `millrace`, the broker. See [`millrace_engine::process`].

fn main() -> std::process::ExitCode {
    millrace_engine::process::run(std::env::args_os())
}
