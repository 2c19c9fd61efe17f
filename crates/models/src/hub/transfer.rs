//! Transfers the data of one file into a partial file, with retries, limits and checks of the free space.

use std::io::{self, Read};

use super::Progress;
use super::disk::{amount, free_space};
use super::error::{HubError, Result};
use super::partial::Partial;
use super::retry::{RateWatch, RequestError, RetryPolicy};
use super::settings::Hub;

const CHUNK: usize = 1 << 18;

/// The data of a body, and the byte at which they begin.
pub(super) type Opened = (u64, Box<dyn Read>);

/// What is known about a file that is transferred.
pub(super) struct Transfer<'a> {
    pub(super) hub: &'a Hub,
    /// Hub id or host, for messages.
    pub(super) id: &'a str,
    pub(super) file: &'a str,
    pub(super) size: Option<u64>,
    /// Maximum size in bytes, if there is one.
    pub(super) most: Option<u64>,
    /// Whether parts of several requests belong together: a hash or the server proves that the file has not changed.
    pub(super) resumes: bool,
}

impl Transfer<'_> {
    /// Transfers until everything has arrived, with retries if the connection is cut.
    pub(super) fn complete(
        &self,
        partial: &mut Partial,
        open: &dyn Fn(u64) -> Result<Opened, RequestError>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let (mut retries, mut furthest) = (RetryPolicy::new(self.hub.pause), partial.len());
        while let Err(error) = self.transfer(partial, open, progress) {
            // A server that cuts every connection after some bytes makes no progress.
            if partial.len() >= furthest + self.hub.least_rate.bytes().max(1) {
                furthest = partial.len();
                retries.restore();
            }
            retries.wait(error, progress)?;
        }
        Ok(())
    }

    /// Sends one request for the missing data.
    fn transfer(
        &self,
        partial: &mut Partial,
        open: &dyn Fn(u64) -> Result<Opened, RequestError>,
        progress: &mut dyn Progress,
    ) -> Result<(), RequestError> {
        let Self { file, size, .. } = *self;
        if !self.resumes {
            partial.restart()?;
        }
        progress.at(file, partial.len(), size);
        if size.is_some_and(|size| partial.len() == size) {
            return Ok(());
        }
        let room = self.room(partial)?;
        let (start, mut body) = open(partial.len())?;
        if start != partial.len() {
            partial.restart()?;
        }
        let mut watch = RateWatch::new(self.hub.least_rate);
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.cut(&format!("the connection was cut ({e})"))),
            };
            if count == 0 {
                break;
            }
            let bytes = &buffer[..count];
            partial.write(bytes).map_err(|e| self.write_error(&e, partial))?;
            progress.at(file, partial.len(), size);
            if size.is_some_and(|size| partial.len() > size) {
                // More than was announced: `verify` reports the wrong size.
                break;
            }
            self.check_growth(partial, room)?;
            if watch.is_too_slow(count as u64) {
                let least = self.hub.least_rate.bytes_per_second;
                return Err(self.cut(&format!("the data arrive at less than {least} bytes per second")));
            }
        }
        match size {
            Some(size) if partial.len() < size => {
                Err(self.cut(&format!("the connection ended after {} of {size} bytes", partial.len())))
            }
            _ => Ok(()),
        }
    }

    /// Returns how large the file may become on this disk. Fails if that is less than its size.
    fn room(&self, partial: &Partial) -> Result<u64> {
        let Some(free) = partial.path().parent().and_then(free_space) else { return Ok(u64::MAX) };
        let room = partial.len().saturating_add(free);
        match self.size {
            Some(size) if size > room => Err(self.no_room(partial, &format!("{} are free", amount(free)))),
            _ => Ok(room),
        }
    }

    /// Fails if a file of unknown size has become too large.
    fn check_growth(&self, partial: &mut Partial, room: u64) -> Result<()> {
        let most = self.most;
        if most.is_some_and(|most| partial.len() > most) {
            partial.restart()?;
            let (id, file) = (self.id.into(), self.file.into());
            return Err(HubError::TooLarge { id, file, size: None, most: most.unwrap_or_default() });
        }
        if self.size.is_none() && partial.len() >= room {
            partial.restart()?;
            return Err(self.no_room(partial, "the data do not end"));
        }
        Ok(())
    }

    fn cut(&self, reason: &str) -> RequestError {
        let error = HubError::Cut { id: self.id.into(), file: self.file.into(), reason: reason.into() };
        RequestError::new(error, true)
    }

    pub(super) fn write_error(&self, source: &io::Error, partial: &Partial) -> HubError {
        use io::ErrorKind as K;
        #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds become `HubError::File`")]
        match source.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => self.no_room(partial, &source.to_string()),
            kind => HubError::file("write", partial.path())(io::Error::new(kind, source.to_string())),
        }
    }

    fn no_room(&self, partial: &Partial, reason: &str) -> HubError {
        let needed = self.size.map_or("more".into(), |size| amount(size.saturating_sub(partial.len())));
        let folder = partial.path().parent().unwrap_or(partial.path()).into();
        HubError::NoRoom { file: self.file.into(), folder, needed, reason: reason.into() }
    }
}
