//! The daemon's binary.
fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(verb) if verb == "spawner" => {
            let lock = args.next().unwrap_or_default();
            deployd::spawn::server::serve(std::path::Path::new(&lock))
        }
        _ => std::process::ExitCode::FAILURE,
    }
}
