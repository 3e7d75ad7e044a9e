//! `packetboat subscriptions`: sends dead letters back.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use super::{client::Server, print};
use crate::{
    filter::Filter,
    redrive::{self, Destination, Done, Observer, Plan},
    resource::name::{SubscriptionName, TopicName},
    telemetry::printable,
};

/// Send dead letters back.
///
/// A running server has them.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Publish the messages of a dead letter topic again where they came from
    ///
    /// Each goes to the topic of the subscription that it names, without the attributes that it got on its way, and is
    /// acknowledged once it is published; all subscriptions of that topic get it. It ends at messages that were
    /// published after it began. What stays is given back at the end, which counts as a failed delivery.
    Redrive {
        /// The dead letter topic's subscription: projects/PROJECT/subscriptions/SUBSCRIPTION
        subscription: String,
        /// Publish all of them to this topic: projects/PROJECT/topics/TOPIC
        #[arg(long, value_name = "TOPIC")]
        to_topic: Option<String>,
        /// Only messages whose attributes match, in the language of subscriptions' filters
        #[arg(long, value_name = "FILTER")]
        filter: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Publish and acknowledge nothing; say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Sends them; fails when one of them could not be sent.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Action::Redrive {
        subscription,
        to_topic,
        filter,
        limit,
        dry_run,
        yes,
    } = arguments.action;
    let to_topic = to_topic.map(|topic| TopicName::parse("topic", &topic));
    let filter = filter.map(|filter| Filter::parse(&filter));
    let plan = Plan {
        addr: arguments.server.addr,
        subscription: SubscriptionName::parse("subscription", &subscription)?,
        to_topic: to_topic.transpose()?,
        filter: filter.transpose()?,
        limit,
        dry_run,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start: {error}"))?;
    let mut terminal = Terminal {
        bar: ProgressBar::new_spinner(),
        asks: !yes && !dry_run,
    };
    let (done, result) = runtime.block_on(redrive::redrive(&plan, &mut terminal));
    terminal.bar.finish_and_clear();
    if result.is_ok() || done != Done::default() {
        print(&format!("{}\n", shown(done, dry_run)));
    }
    result?;
    let is_whole = done.failed == 0 && done.unacknowledged == 0;
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn shown(done: Done, dry_run: bool) -> String {
    let sent = if dry_run { "would be sent" } else { "sent" };
    let Done {
        sent: count,
        left,
        failed,
        unacknowledged,
    } = done;
    let mut parts = vec![
        format!("{count} {sent}"),
        format!("{left} left as they are"),
    ];
    if failed > 0 {
        parts.push(format!("{failed} not sent"));
    }
    if unacknowledged > 0 {
        parts.push(format!("{unacknowledged} sent that stay"));
    }
    parts.join(", ")
}

/// Who started it.
struct Terminal {
    bar: ProgressBar,
    asks: bool,
}

impl Observer for Terminal {
    fn allows(&mut self, destination: &Destination) -> bool {
        let Destination { topic, others } = destination;
        let others = if others.is_empty() {
            "no other subscription gets them".to_owned()
        } else {
            format!("these get them too: {}", others.join(", "))
        };
        let text = format!("messages go to {topic}; {others}");
        self.bar.suspend(|| {
            print(&format!("{text}\n"));
            if !self.asks {
                return true;
            }
            if !io::stdin().is_terminal() {
                print("say --yes to send them\n");
                return false;
            }
            print("Send them? [y/N] ");
            let mut answer = String::new();
            io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
        })
    }

    fn progress(&mut self, done: Done) {
        self.bar.set_message(shown(done, false));
        self.bar.tick();
    }

    fn fails(&mut self, what: String) {
        self.bar.suspend(|| {
            let _written = writeln!(io::stderr(), "{}", printable::text(&what));
        });
    }
}
