//! From flags, environment and file to what browsers may ask.

use std::str::FromStr;

use anyhow::anyhow;
use clap::Args;

use crate::{
    auth::{
        host::{AllowedHost, Hosts},
        origin::Origin,
        web::WebAccess,
    },
    config::{File, machine_name},
};

/// Which web pages may use the server, and under which names.
#[derive(Args, Debug)]
pub(super) struct WebArguments {
    /// Origin whose web pages may use the server, such as https://console.example.com; may be repeated
    ///
    /// Those of localhost may anyway, and the server's own. In the environment variable, several are separated by commas.
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "PACKETBOAT_ALLOWED_ORIGIN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    allowed_origin: Vec<Origin>,

    /// Name by which the server is reached, such as pubsub.example.com, or * for any; may be repeated
    ///
    /// IP addresses, names without a dot, *.localhost, *.local, *.internal, *.test, *.svc, *.cluster.local and the
    /// machine's own name need not be named. In the environment variable, several are separated by commas.
    #[arg(
        long,
        value_name = "HOST",
        env = "PACKETBOAT_ALLOWED_HOST",
        hide_env_values = true,
        value_delimiter = ','
    )]
    allowed_host: Vec<AllowedHost>,
}

impl WebArguments {
    /// What they and the file say together.
    pub(super) fn access(self, file: &File) -> anyhow::Result<WebAccess> {
        Ok(WebAccess {
            hosts: Hosts {
                machine: machine_name(),
                allowed: or_of_the_file("allowed_host", self.allowed_host, &file.allowed_host)?,
            },
            origins: or_of_the_file("allowed_origin", self.allowed_origin, &file.allowed_origin)?,
        })
    }
}

fn or_of_the_file<T: FromStr<Err = String>>(
    key: &str,
    given: Vec<T>,
    of_the_file: &[String],
) -> anyhow::Result<Vec<T>> {
    if !given.is_empty() {
        return Ok(given);
    }
    let parse = |text: &String| {
        text.parse()
            .map_err(|reason| anyhow!("{key} {text:?} in the configuration file: {reason}"))
    };
    of_the_file.iter().map(parse).collect()
}
