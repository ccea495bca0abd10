//! The `weir` command; see the library's `cli`.

fn main() -> std::process::ExitCode {
    weir::cli::main(std::env::args_os())
}
