//! `millrace`, the broker. See [`millrace_engine::process`].

use millrace_engine::device_memory::DeviceMemory;

#[global_allocator]
static ALLOCATOR: DeviceMemory = DeviceMemory;

fn main() -> std::process::ExitCode {
    millrace_engine::process::run(std::env::args_os())
}
