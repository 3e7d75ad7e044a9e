//! What a database's answers mean. Values in, findings out.

use crate::{
    doctor::finding::{Finding, a_few, counted},
    limits::{OLD_TRANSACTION_SECONDS, POSTGRES_NODE_CONNECTIONS_MAX, POSTGRES_VERSION_MIN},
    store::postgres::{self, Node, OldTransaction, Privileges, Refusal, Server},
};

/// What the server, the database and the user are like. `shown` is the database.
pub(super) fn server(server: &Server, shown: &str) -> Vec<Finding> {
    let mut findings = vec![server_version(shown, server.version)];
    findings.extend(writes(server.is_standby, server.is_read_only));
    findings.extend(durability(
        &server.fsync,
        &server.full_page_writes,
        &server.synchronous_commit,
    ));
    findings.extend(lost_standbys(
        &server.synchronous_commit,
        &server.standbys_awaited,
        server.standbys,
    ));
    findings.push(privileges(&server.privileges));
    findings
}

/// Whether the server is new enough. `version` is Postgres' number for it, such as 150004.
fn server_version(shown: &str, version: i32) -> Finding {
    let found = format!("{}.{}", version / 10_000, version % 10_000);
    if version < POSTGRES_VERSION_MIN * 10_000 {
        Finding::problem(shown, Refusal::OldServer { found })
    } else {
        Finding::ok(format!("{shown} answers: Postgres {found}"))
    }
}

/// Whether it takes writes.
fn writes(is_standby: bool, is_read_only: bool) -> Option<Finding> {
    if is_standby {
        return Some(Finding::failure(&Refusal::Standby));
    }
    is_read_only.then(|| {
        Finding::problem(
            "default_transaction_read_only is on",
            "nodes find no session that takes writes: set it off for the server, the database and the user",
        )
    })
}

/// Whether commits wait for standbys that are not there.
fn lost_standbys(synchronous_commit: &str, awaited: &str, standbys: u32) -> Option<Finding> {
    // Sessions of nodes set "off" to "on".
    let waits = !awaited.is_empty() && synchronous_commit != "local";
    (waits && standbys == 0).then(|| {
        Finding::problem(
            format!("commits wait for the standbys {awaited:?}, and none is connected"),
            "nothing can be acknowledged, created or changed meanwhile: start a standby, or correct \
             synchronous_standby_names",
        )
    })
}

/// Whether what was committed survives a crash of the server.
fn durability(fsync: &str, full_page_writes: &str, synchronous_commit: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if fsync == "off" {
        findings.push(Finding::problem(
            "fsync is off",
            "a crash of its machine destroys the database: set fsync = on in postgresql.conf",
        ));
    }
    if full_page_writes == "off" {
        findings.push(Finding::problem(
            "full_page_writes is off",
            "a crash of its machine may destroy pages: set full_page_writes = on, unless the file system never tears one",
        ));
    }
    if findings.is_empty() {
        let for_nodes = match synchronous_commit {
            // Sessions of nodes set it for themselves.
            "off" => "off, but on for nodes",
            other => other,
        };
        findings.push(Finding::ok(format!(
            "commits are durable: fsync and full_page_writes are on, synchronous_commit is {for_nodes}"
        )));
    }
    findings
}

fn privileges(privileges: &Privileges) -> Finding {
    let owner = "make the user the owner of the database and of the tables in it";
    let Some(schema) = &privileges.schema else {
        return Finding::problem(
            "there is no schema that the user may use",
            "GRANT it USAGE and CREATE on one, or name another one with ?options=-csearch_path%3DNAME",
        );
    };
    if !privileges.closed.is_empty() {
        return Finding::problem(
            format!(
                "the user may not read and write the tables {}",
                a_few(&privileges.closed)
            ),
            owner,
        );
    }
    if !privileges.may_create {
        return Finding::problem(
            format!("the user may not create tables in the schema {schema}"),
            format!("{owner}, or GRANT it CREATE on the schema"),
        );
    }
    if !privileges.not_owned.is_empty() {
        return Finding::warning(
            format!(
                "the user does not own the tables {}",
                a_few(&privileges.not_owned)
            ),
            format!("a newer version cannot bring them up to date: {owner}"),
        );
    }
    Finding::ok(format!(
        "the user may create, read and write tables in the schema {schema}"
    ))
}

pub(super) fn old_transactions(old: &[OldTransaction]) -> Finding {
    let minutes = OLD_TRANSACTION_SECONDS / 60;
    let shown: Vec<_> = old
        .iter()
        .map(|one| format!("{} for {} s", one.whose, one.seconds))
        .collect();
    if shown.is_empty() {
        Finding::ok(format!(
            "no transaction has been open for more than {minutes} minutes"
        ))
    } else {
        Finding::warning(
            format!(
                "{} open for more than {minutes} minutes: {}",
                counted(shown.len(), "transaction"),
                a_few(&shown)
            ),
            "dead rows are kept meanwhile, and the tables grow: end them, with pg_terminate_backend if need be",
        )
    }
}

/// Another application's tables that have the names of ours.
pub(super) fn tables_of_others(names: &[String]) -> Option<Finding> {
    (!names.is_empty()).then(|| Finding::failure(&Refusal::Taken(a_few(names))))
}

/// The version of the tables, if there are any.
pub(super) fn tables(found: Option<i32>) -> Finding {
    let known = postgres::TABLES_VERSION;
    match found {
        None => Finding::ok("there are no tables yet: they are made at start"),
        Some(found) if found > known => Finding::failure(&Refusal::Newer { found, known }),
        Some(found) if found < known => Finding::ok(format!(
            "the tables are of version {found}: they are brought up to version {known} at start"
        )),
        Some(found) => Finding::ok(format!(
            "the tables are of version {found}, the current one"
        )),
    }
}

/// Whether the store's offsets are of the log that was given, if it is known.
pub(super) fn belongs(found: &str, expected: Option<&str>) -> Finding {
    match expected {
        Some(expected) if expected != found => Finding::failure(&Refusal::OtherLog {
            found: found.to_owned(),
            expected: expected.to_owned(),
        }),
        _ => Finding::ok(format!("the store belongs to the log {found}")),
    }
}

pub(super) fn nodes(nodes: &[Node]) -> Finding {
    let shown: Vec<_> = nodes
        .iter()
        .map(|node| {
            let (seconds, millis) = (node.millis_left / 1000, node.millis_left % 1000);
            format!(
                "{} at {} (lease of {seconds}.{} s)",
                node.name,
                node.address,
                millis / 100
            )
        })
        .collect();
    Finding::ok(match shown.len() {
        0 => "no node is running".to_owned(),
        count => format!("{} running: {}", counted(count, "node"), shown.join(", ")),
    })
}

/// Whether all nodes that are seen, or one if there is none, find the connections that they may need.
pub(super) fn connections(usable: u32, of_others: u32, nodes: usize) -> Finding {
    let nodes = nodes.max(1);
    let needed = u32::try_from(nodes).unwrap_or(u32::MAX);
    let needed = needed.saturating_mul(POSTGRES_NODE_CONNECTIONS_MAX);
    let found = format!(
        "Postgres takes {usable} connections, of which others use {of_others}, and {} may use {needed}",
        counted(nodes, "node")
    );
    let advice = "raise max_connections";
    if needed > usable {
        Finding::problem(found, advice)
    } else if needed.saturating_add(of_others) > usable {
        Finding::warning(found, advice)
    } else {
        Finding::ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_server_is_new_enough_and_primary() {
        assert_eq!(server_version("db", 150_004).level, Level::Ok);
        let old = server_version("db", 140_009);
        assert_eq!(old.level, Level::Problem);
        assert!(old.text.contains("14.9"), "{}", old.text);
        let level = |standby, read_only| writes(standby, read_only).map(|one| one.level);
        assert_eq!(level(true, false), Some(Level::Problem));
        assert_eq!(level(false, true), Some(Level::Problem));
        assert_eq!(level(false, false), None);
    }

    #[test]
    fn a_standby_that_commits_wait_for_in_vain_is_a_problem() {
        let level = |commit, awaited, standbys| {
            lost_standbys(commit, awaited, standbys).map(|one| one.level)
        };
        assert_eq!(level("on", "ANY 1 (b)", 0), Some(Level::Problem));
        assert_eq!(level("off", "b", 0), Some(Level::Problem));
        assert_eq!(level("on", "b", 1), None);
        assert_eq!(level("on", "", 0), None);
        assert_eq!(level("local", "b", 0), None);
    }

    #[test]
    fn settings_that_break_promises_are_named() {
        let levels = |fsync, pages, commit| {
            let found = durability(fsync, pages, commit);
            found.iter().map(|one| one.level).collect::<Vec<_>>()
        };
        assert_eq!(levels("on", "on", "on"), [Level::Ok]);
        assert_eq!(levels("on", "on", "remote_apply"), [Level::Ok]);
        assert_eq!(levels("on", "on", "off"), [Level::Ok]);
        assert_eq!(
            levels("off", "off", "off"),
            [Level::Problem, Level::Problem]
        );
    }

    #[test]
    fn what_the_user_may_not_do_is_told_by_what_it_breaks() {
        let all = Privileges {
            schema: Some("public".to_owned()),
            may_create: true,
            closed: Vec::new(),
            not_owned: Vec::new(),
        };
        assert_eq!(privileges(&all).level, Level::Ok);
        let no_schema = Privileges {
            schema: None,
            ..all.clone()
        };
        let no_create = Privileges {
            may_create: false,
            ..all.clone()
        };
        let closed = Privileges {
            closed: vec!["nodes".to_owned()],
            ..all.clone()
        };
        let borrowed = Privileges {
            not_owned: vec!["nodes".to_owned()],
            ..all
        };
        for (user, level, word) in [
            (no_schema, Level::Problem, "search_path"),
            (
                no_create,
                Level::Problem,
                "create tables in the schema public",
            ),
            (closed, Level::Problem, "nodes"),
            (borrowed, Level::Warning, "nodes"),
        ] {
            let found = privileges(&user);
            assert_eq!(found.level, level, "{found}");
            assert!(found.text.contains(word), "{found}");
        }
    }

    #[test]
    fn an_old_transaction_is_named_with_its_age() {
        assert_eq!(old_transactions(&[]).level, Level::Ok);
        let old = OldTransaction {
            whose: "process 7 (psql)".to_owned(),
            seconds: 301,
        };
        let found = old_transactions(&[old]);
        assert_eq!(found.level, Level::Warning);
        assert!(found.text.contains("process 7 (psql) for 301 s"), "{found}");
    }

    #[test]
    fn tables_of_a_newer_version_or_of_another_log_are_a_problem() {
        assert_eq!(tables(None).level, Level::Ok);
        assert_eq!(tables(Some(postgres::TABLES_VERSION)).level, Level::Ok);
        assert_eq!(tables(Some(postgres::TABLES_VERSION - 1)).level, Level::Ok);
        assert_eq!(
            tables(Some(postgres::TABLES_VERSION + 1)).level,
            Level::Problem
        );
        assert_eq!(belongs("a", Some("a")).level, Level::Ok);
        assert_eq!(belongs("a", None).level, Level::Ok);
        let other = belongs("a", Some("b"));
        assert_eq!(other.level, Level::Problem);
        assert!(
            other.text.contains("the log a") && other.text.contains("kept in b"),
            "{other}"
        );
        let taken = tables_of_others(&["topics".to_owned()]);
        assert_eq!(taken.map(|one| one.level), Some(Level::Problem));
    }

    #[test]
    fn nodes_are_named_and_find_their_connections() {
        let node = Node {
            name: "one".to_owned(),
            address: "10.0.0.1:8085".to_owned(),
            millis_left: 4_321,
        };
        let text = nodes(&[node]).text;
        assert!(
            text.contains("one at 10.0.0.1:8085 (lease of 4.3 s)"),
            "{text}"
        );
        assert_eq!(connections(97, 0, 3).level, Level::Ok);
        assert_eq!(connections(97, 70, 3).level, Level::Warning);
        assert_eq!(connections(97, 0, 9).level, Level::Problem);
        assert_eq!(connections(10, 0, 0).level, Level::Problem);
    }
}
