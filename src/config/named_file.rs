//! Files that an operator names: who else may read and write them.
//!
//! Symbolic links are followed, as Kubernetes mounts secrets behind some.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::file::{File as Settings, FileError, PropertyValue};

const GROUP_WRITES: u32 = 0o020;
const EVERYBODY_READS: u32 = 0o004;
const EVERYBODY_WRITES: u32 = 0o002;

/// Properties of librdkafka that name a file, and whether that holds a secret.
const KAFKA: [(&str, bool); 5] = [
    ("ssl.key.location", true),
    ("ssl.keystore.location", true),
    ("ssl.ca.location", false),
    ("ssl.certificate.location", false),
    ("ssl.crl.location", false),
];
/// Variables of libpq that name a file, the parameter of a URL that comes before each, and whether that holds a secret.
const POSTGRES: [(&str, &str, bool); 4] = [
    ("PGPASSFILE", "", true),
    ("PGSSLKEY", "sslkey", true),
    ("PGSSLCERT", "sslcert", false),
    ("PGSSLROOTCERT", "sslrootcert", false),
];

/// What a file's permissions mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nobody else may write it, or read it if it holds a secret.
    Private,
    /// A group of users may write it.
    GroupWrites,
    /// It holds a secret, and everybody may read it.
    EverybodyReads,
    /// Everybody may write it.
    EverybodyWrites,
}

/// Judges a file by its permissions. Where a group has its owner's number, that user is the only member by custom.
const fn judge(mode: u32, owner: u32, group: u32, is_secret: bool) -> Access {
    if mode & EVERYBODY_WRITES != 0 {
        Access::EverybodyWrites
    } else if is_secret && mode & EVERYBODY_READS != 0 {
        Access::EverybodyReads
    } else if mode & GROUP_WRITES != 0 && owner != group {
        Access::GroupWrites
    } else {
        Access::Private
    }
}

/// Judges the permissions of a file, which holds a secret or only settings. Returns what is dangerous about it, if
/// anything is.
///
/// # Errors
/// It is not there, or everybody may write it.
pub fn check(path: &Path, is_secret: bool) -> Result<Option<String>, FileError> {
    let found = fs::metadata(path).map_err(|error| failed(path, error))?;
    danger(path, &found, is_secret)
}

/// The files that clients of Kafka and Postgres will read themselves, each with whether it holds a secret. `store` is the
/// URL of the Postgres database, if there is one.
pub fn of_clients(
    settings: &Settings,
    store: Option<&str>,
    environment: impl Fn(&str) -> Option<String>,
) -> Vec<(PathBuf, bool)> {
    let properties = &settings.kafka.properties;
    let kafka = KAFKA.iter().filter_map(|&(name, is_secret)| {
        let path = properties.get(name).map(PropertyValue::to_text)?;
        Some((PathBuf::from(path), is_secret))
    });
    let parameter = |store: &str, wanted: &str| {
        let (_, parameters) = store.split_once('?')?;
        let mut parameters = form_urlencoded::parse(parameters.as_bytes());
        let found = parameters.find(|(name, _)| name == wanted)?;
        Some(found.1.into_owned())
    };
    let postgres = POSTGRES
        .iter()
        .filter_map(|&(variable, wanted, is_secret)| {
            let path = parameter(store?, wanted).or_else(|| environment(variable))?;
            Some((PathBuf::from(path), is_secret))
        });
    kafka.chain(postgres).collect()
}

/// Reads a file, as [`check`] and [`fs::read_to_string`] would.
pub(super) fn read(path: &Path, is_secret: bool) -> Result<(String, Option<String>), FileError> {
    let read = || {
        let file = File::open(path)?;
        // Of the file that is read, not of one that has its name by then.
        let found = file.metadata()?;
        Ok((io::read_to_string(file)?, found))
    };
    let (text, found) = read().map_err(|error| failed(path, error))?;
    Ok((text, danger(path, &found, is_secret)?))
}

fn danger(path: &Path, found: &fs::Metadata, is_secret: bool) -> Result<Option<String>, FileError> {
    // A device or a pipe, as of a shell's <(…), is nobody's to replace.
    if !found.is_file() {
        return Ok(None);
    }
    let shown = path.display();
    match judge(found.permissions().mode(), found.uid(), found.gid(), is_secret) {
        Access::Private => Ok(None),
        Access::GroupWrites => Ok(Some(format!(
            "the group {} may write {shown}, and so decide what this server does: take that away (chmod g-w {shown})",
            found.gid()
        ))),
        Access::EverybodyReads => Ok(Some(format!(
            "{shown} holds a secret, and every user of this machine may read it: take that away (chmod o-r {shown})"
        ))),
        Access::EverybodyWrites => Err(FileError::Refused {
            path: path.to_owned(),
            reason: "every user of this machine may write it, and so decide what this server does: take that away \
                     (chmod o-w)"
                .to_owned(),
        }),
    }
}

fn failed(path: &Path, source: io::Error) -> FileError {
    FileError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_everybody_may_write_is_refused_and_secrets_that_everybody_may_read_are_dangerous() {
        for (mode, owner, group, is_secret, access) in [
            (0o100_600, 7, 7, true, Access::Private),
            (0o100_440, 0, 7, true, Access::Private),
            (0o100_644, 0, 0, true, Access::EverybodyReads),
            (0o100_644, 0, 0, false, Access::Private),
            (0o100_664, 7, 7, false, Access::Private),
            (0o100_664, 7, 8, false, Access::GroupWrites),
            (0o100_660, 0, 7, true, Access::GroupWrites),
            (0o100_666, 7, 7, false, Access::EverybodyWrites),
            (0o100_602, 7, 7, true, Access::EverybodyWrites),
        ] {
            assert_eq!(
                judge(mode, owner, group, is_secret),
                access,
                "{mode:o} {owner} {group}"
            );
        }
    }

    #[test]
    fn the_files_of_clients_are_known_by_the_settings_that_name_them() {
        let mut settings = Settings::default();
        for (name, path) in [
            ("ssl.key.location", "/k"),
            ("ssl.ca.location", "/ca"),
            ("sasl.username", "/u"),
        ] {
            let value = PropertyValue::Text(path.to_owned());
            settings.kafka.properties.insert(name.to_owned(), value);
        }
        let environment = |name: &str| match name {
            "PGSSLKEY" => Some("/not/this".to_owned()),
            "PGPASSFILE" => Some("/pass".to_owned()),
            _ => None,
        };
        let file = |path: &str, is_secret| (PathBuf::from(path), is_secret);
        let store = "postgres://db/p?sslmode=verify-full&sslkey=%2Fpg%20key";
        assert_eq!(
            of_clients(&settings, Some(store), environment),
            [
                file("/k", true),
                file("/ca", false),
                file("/pass", true),
                file("/pg key", true)
            ]
        );
        assert_eq!(of_clients(&Settings::default(), None, environment), []);
    }

    #[test]
    fn a_secret_as_kubernetes_mounts_it_is_read_with_a_warning() {
        let directory = tempfile::tempdir().expect("a directory");
        let (target, link) = (
            directory.path().join("..data"),
            directory.path().join("password"),
        );
        fs::write(&target, "s3cret\n").expect("written");
        symlink(&target, &link).expect("a link");
        let open = |mode| fs::set_permissions(&target, fs::Permissions::from_mode(mode));
        open(0o644).expect("ours");
        let (text, danger) = read(&link, true).expect("read");
        assert_eq!(text, "s3cret\n");
        let danger = danger.expect("everybody may read it");
        assert!(
            danger.contains("chmod") && !danger.contains("s3cret"),
            "{danger}"
        );
        assert_eq!(check(&link, true).expect("there"), Some(danger));
        open(0o602).expect("ours");
        for refused in [read(&link, true).map(drop), check(&link, false).map(drop)] {
            let text = refused.expect_err("everybody may write it").to_string();
            assert!(
                text.contains("password") && text.contains("chmod o-w"),
                "{text}"
            );
        }
    }
}
