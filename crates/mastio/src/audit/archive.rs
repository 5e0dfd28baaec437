//! `cullis-proxy audit archive`: by itself while no server runs, else it begins the archive and the server makes it.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mastio_authority::boot;
use mastio_config::{Database as DatabaseSetting, Settings, Source};
use mastio_core::{
    Clock, OrgId, Stamp, SystemClock, SystemRng, counted,
    event::{Details, catalogue},
};
use mastio_ledger::{
    Ledger,
    archive::{ArchiveError, Wanted, plan},
};
use mastio_store::{
    Store, WriteError,
    audit::archive::{self, Job, Phase},
    config,
    sqlite::Database,
};
use serde_json::{Value, json};

use super::who;
use crate::{
    Ended,
    out::{complain, say, say_part},
};

/// How often it looks how far the server got.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// After how many looks it makes sure that there is still a server.
const LOOKS_PER_SERVER: u32 = 25;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Entries from before this day (its beginning in UTC) or time go. The newest entry always stays.
    #[arg(long, value_name = "DATE", value_parser = day)]
    before: Stamp,
    /// The folder for the file, best on another disk. The server writes there if one runs.
    #[arg(long)]
    out: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

fn day(text: &str) -> Result<Stamp, &'static str> {
    Stamp::parse_or_day(text).map_err(|_| "a day such as 2026-01-31, or a time with a day")
}

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(arguments: &Arguments) -> Ended {
    match archive(arguments) {
        Ok(Some(archived)) => {
            report(&archived, arguments.json);
            Ended::Done
        }
        Ok(None) => {
            let nothing =
                "nothing to archive: no entry is that old, or only the newest one, which always stays";
            say!(
                "{}",
                if arguments.json { json!({ "archived": null }).to_string() } else { nothing.to_owned() }
            );
            Ended::Done
        }
        Err(error) => {
            complain!("{error}");
            Ended::Refused
        }
    }
}

fn report(archived: &Value, as_json: bool) {
    if as_json {
        say!("{}", json!({ "archived": archived }));
        return;
    }
    let text = |name: &str| archived[name].as_str().unwrap_or_default().to_owned();
    say!("archived entries {} to {} into {}", archived["first_seq"], archived["last_seq"], text("file"));
    say!("sha256 {}", text("bundle_sha256"));
    say!("the database does not get smaller: what they leave is used for new entries");
}

fn archive(arguments: &Arguments) -> Result<Option<Value>, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(archive_of(&settings, arguments))
}

async fn archive_of(settings: &Settings, arguments: &Arguments) -> Result<Option<Value>, Failure> {
    let DatabaseSetting::Sqlite(path) = &settings.database;
    let database = Database::open_for_tool(path)?;
    let org = config::get(&database, "org_id")?
        .ok_or("the database names no organisation; start the Mastio once")?;
    let tool = Tool { settings, path, database, org: OrgId::parse(&org)?, quiet: arguments.json };
    if let Some(job) = archive::job(&tool.database)? {
        tool.say(format_args!("carrying on with the archive that was begun at {}", job.started_at));
        tool.follow(&job, 0).await?;
    }
    let clock = SystemClock::default();
    let wanted = Wanted { before: arguments.before, out: arguments.out.clone(), by: who() };
    let (job, unit) = match plan(&tool.database, &tool.org, &wanted, clock.now()) {
        Err(ArchiveError::Nothing(_)) => return Ok(None),
        planned => planned?,
    };
    if !arguments.yes && !agreed(&job)? {
        return Err("nothing was archived".into());
    }
    let store = Store::start(Arc::clone(&tool.database), tool.org.clone(), Arc::new(clock), &SystemRng)?;
    let begun = store.submit(unit).await;
    store.close();
    let begun = begun.map_err(|error| match error {
        WriteError::Rejected(_) => ArchiveError::UnderWay,
        error => error.into(),
    })?;
    tool.follow(&job, begun.audit.map_or(0, |(first, _)| first.cast_signed())).await?;
    tool.archived(&job).map(Some)
}

fn agreed(job: &Job) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err("this deletes entries from the database; say --yes".into());
    }
    say_part!(
        "{} ({} to {}) will go into {} and be deleted from the database. Go on? [y/N] ",
        counted(job.span.entries(), "entry", "entries"),
        job.span.first,
        job.span.last,
        job.file
    );
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A tool beside a database that may be served.
struct Tool<'a> {
    settings: &'a Settings,
    path: &'a Path,
    database: Arc<Database>,
    org: OrgId,
    quiet: bool,
}

impl Tool<'_> {
    fn say(&self, what: std::fmt::Arguments<'_>) {
        if !self.quiet {
            say!("{what}");
        }
    }

    /// Waits until `job` is done by the server, or does it. It was begun by the entry at `since`.
    async fn follow(&self, job: &Job, since: i64) -> Result<(), Failure> {
        let bar = ProgressBar::new(job.span.entries()).with_style(style());
        let followed = match Database::is_served(self.path)? {
            true => self.watch(job, since, &bar).await,
            false => self.carry_out(job, &bar).await,
        };
        bar.finish_and_clear();
        followed
    }

    async fn carry_out(&self, job: &Job, bar: &ProgressBar) -> Result<(), Failure> {
        bar.set_message("writing");
        let settings = self.settings.clone();
        let authority = boot::start(settings, Arc::new(SystemClock::default()), Arc::new(SystemRng)).await?;
        let ledger = Ledger::new(authority);
        let mut progress = ledger.archive_progress();
        let run = ledger.run_archive();
        tokio::pin!(run);
        loop {
            tokio::select! {
                done = &mut run => return done.map(drop).map_err(|error| format!("entries {} to {} are not archived: {error}", job.span.first, job.span.last).into()),
                changed = progress.changed() => {
                    changed?;
                    if let Some(progress) = &*progress.borrow_and_update() {
                        bar.set_message(progress.step.as_str());
                        bar.set_position(progress.done);
                    }
                }
            }
        }
    }

    async fn watch(&self, job: &Job, since: i64, bar: &ProgressBar) -> Result<(), Failure> {
        for look in 1_u32.. {
            match archive::job(&self.database)?.filter(|now| now.span == job.span) {
                None => return self.ended(since),
                Some(now) => {
                    bar.set_message(now.phase.as_str());
                    if now.phase == Phase::Deleting {
                        let oldest = archive::oldest(&self.database, &self.org, job.span.first)?;
                        bar.set_position((oldest.unwrap_or(job.span.first) - job.span.first).unsigned_abs());
                    }
                }
            }
            if look % LOOKS_PER_SERVER == 0 && !Database::is_served(self.path)? {
                return Err("the server has stopped; it goes on with the archive when it starts again, and so does this command".into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// What the log tells about the end of the archive that was begun at `since`.
    fn ended(&self, since: i64) -> Result<(), Failure> {
        let (completed, failed) =
            (catalogue::ArchiveCompleted::KIND.name, catalogue::ArchiveFailed::KIND.name);
        let told = archive::newest_told(&self.database, &self.org, since, [completed, failed])?;
        match told.filter(|told| told.event == failed) {
            Some(told) => {
                let details: Value = serde_json::from_str(&told.details).unwrap_or_default();
                Err(details["problem"].as_str().unwrap_or("the archive was given up").to_owned().into())
            }
            None => Ok(()),
        }
    }

    fn archived(&self, job: &Job) -> Result<Value, Failure> {
        let marks = archive::marks(&self.database, &self.org)?;
        let mark = marks.iter().find(|mark| mark.span == job.span).ok_or("the archive was given up")?;
        Ok(json!({
            "first_seq": mark.span.first,
            "last_seq": mark.span.last,
            "entries": mark.span.entries(),
            "last_hash": mark.head_hash,
            "file": mark.file,
            "bundle_sha256": mark.bundle_sha256,
        }))
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {bar:30} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
