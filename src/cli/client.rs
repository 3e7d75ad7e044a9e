//! Arguments of commands that ask a running server.

use clap::Args;

/// Where it is.
#[derive(Args, Debug)]
pub(super) struct Server {
    /// Address of the server
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "PUBSUB_EMULATOR_HOST",
        hide_env_values = true,
        default_value = "127.0.0.1:8085"
    )]
    pub(super) addr: String,
}
