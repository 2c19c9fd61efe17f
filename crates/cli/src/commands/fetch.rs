//! `fetch`.

mod bar;
mod items;
mod offer;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use eval::Needs;
use models::hub::{Hub, HubError, Registry};

use crate::args::{FetchArgs, LOCK_FILE};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::limits::on_interruption;
use crate::print;
use bar::Bar;
use items::Item;
use offer::Offers;

/// All names and files are checked before the first download, and a table says what will be downloaded.
pub(crate) fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let registry = Registry::embedded()?;
    let mut needs = Needs::default();
    for config in &args.configs {
        needs.add(config, &args.assignments)?;
    }
    let items = items::wanted(&args.names, &needs, &args.from, &registry)?;
    // A file gets its name only when it is complete, so the program may stop at any moment. It exits without
    // destructors, which would run while other threads still work.
    let after = if args.unverified { "; files without a hash start over" } else { "" };
    let stop = move || {
        say!("interrupted; run the same command again to resume{after}");
        signal_hook::low_level::exit(ExitCode::Interrupted.code().into());
    };
    on_interruption(stop)?;
    let hub = Hub::from_env()?.with_offline(args.offline).with_unverified(args.unverified);
    let hub = hub.with_lock_file(&args.lock);
    // The table is for the person who waits or is asked.
    if args.offline || (args.configs.is_empty() && !std::io::stderr().is_terminal()) {
        return get(&hub, items, &args.lock);
    }
    let offers = Offers::of(&hub, items);
    if offers.has_downloads() {
        say!("{}", offers.table());
        offers.check_room()?;
        if !args.configs.is_empty() && !args.yes {
            confirm(&offers)?;
        }
    }
    get(&hub, offers.into_items(), &args.lock)
}

/// Gets one item after the other, and prints where each is. What cannot be fetched does not stop the others.
fn get(hub: &Hub, items: Vec<Item>, lock: &Path) -> Result<(), Failure> {
    let (mut absent, mut failed) = (Vec::new(), Vec::new());
    for item in items {
        match get_item(hub, lock, item) {
            Ok(Got::There(places)) => {
                places.iter().for_each(|place| print(&format!("{}\n", place.display())));
            }
            Ok(Got::ByHand(what)) => absent.push(what),
            Err(error) => failed.push(error),
        }
    }
    if !absent.is_empty() {
        let what = absent.join("\n  ");
        failed.push(Failure::unread(format!("the experiments need what only you can get:\n  {what}")));
    }
    match failed.len() {
        0 | 1 => failed.pop().map_or(Ok(()), Err),
        count => {
            failed.iter().for_each(Failure::tell);
            Err(Failure::unread(format!(
                "{count} problems, of which the messages are above; everything else is there. Run the same command again when \
                 they are solved"
            )))
        }
    }
}

/// What came of an item.
enum Got {
    /// Where it is.
    There(Vec<PathBuf>),
    /// What the user must get, and how.
    ByHand(String),
}

fn get_item(hub: &Hub, lock: &Path, item: Item) -> Result<Got, Failure> {
    Ok(match item {
        Item::Model(model) => Got::There(vec![get_one(hub, lock, |hub, bar| hub.fetch(&model, bar))?]),
        Item::File { file, to } => {
            Got::There(vec![get_one(hub, lock, |hub, bar| hub.fetch_file(&file, &to, bar))?])
        }
        Item::Archive { file, given, folders } => {
            get_one(hub, lock, |hub, bar| {
                hub.fetch_archive(&file, given.as_deref(), &folders, bar).map(|()| PathBuf::new())
            })?;
            Got::There(folders.into_iter().map(|folder| folder.to).collect())
        }
        Item::Copied { from, to } => {
            items::copy(&from, &to)?;
            Got::There(vec![to])
        }
        Item::ByHand { what, how } => Got::ByHand(format!("{what}: {how}")),
    })
}

/// A lock file that nobody asked for may be missing: the current folder may be read-only.
fn get_one(
    hub: &Hub,
    lock: &Path,
    fetch: impl Fn(&Hub, &mut Bar) -> Result<PathBuf, HubError>,
) -> Result<PathBuf, HubError> {
    match fetch(hub, &mut Bar::default()) {
        Err(HubError::File { path, source, .. })
            if path == lock && lock == Path::new(LOCK_FILE) && !lock.exists() =>
        {
            say!(
                "cannot write {}: {source}; everything was fetched, but nothing pins the files. --lock names another file",
                path.display()
            );
            fetch(&hub.clone().without_lock_file(), &mut Bar::default())
        }
        done => done,
    }
}

/// Asks the user whether to go on.
fn confirm(offers: &Offers) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "nothing was downloaded: add --yes to download what the table lists".to_owned(),
        ));
    }
    eprint_question(&format!("download {}? [y/N] ", offers.total()));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match (read, answer.trim().to_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => Err(Failure::usage("nothing was downloaded".to_owned())),
    }
}

/// Writes a question to stderr. If that is closed, the answer counts all the same.
fn eprint_question(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
