//! A blob as a stream that goes on where it broke.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use bytes::{Buf, Bytes};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::error::Error;
use super::runtime::Runtime;
use super::session::{Session, Target};
use super::{Options, WAIT};

/// How many pieces, of at most some hundred KiB as they come from the network, wait for the reader.
const QUEUE: usize = 8;

/// From the work to the reader.
enum Message {
    /// There is an answer.
    Started,
    /// Bytes of the blob, in order.
    Bytes(Bytes),
    /// Why there are no more.
    Failed(Error),
}

/// The reader's end.
pub(super) struct Blob<'a> {
    take: Receiver<Message>,
    /// A permit for each piece that may wait.
    room: Arc<Semaphore>,
    piece: Bytes,
    rest: u64,
    work: JoinHandle<()>,
    runtime: &'a Runtime,
    options: &'a Options,
    /// Whether it was said already that it is not wanted.
    told: bool,
}

impl<'a> Blob<'a> {
    /// Asks for the bytes of `range`, which ends where the blob ends, and waits for an answer.
    pub(super) fn start(
        session: Arc<Session>,
        runtime: &'a Runtime,
        options: &'a Options,
        target: Target,
        range: Range<u64>,
    ) -> Result<Self, Error> {
        let (give, take) = channel();
        let room = Arc::new(Semaphore::new(QUEUE));
        let rest = range.end - range.start;
        let stream = Stream {
            session,
            target,
            position: range.start,
            size: range.end,
            started: false,
            give,
            room: Arc::clone(&room),
        };
        let work = runtime.start(stream.run())?;
        let blob = Self { take, room, piece: Bytes::new(), rest, work, runtime, options, told: false };
        loop {
            match blob.take.recv_timeout(WAIT) {
                Ok(Message::Failed(error)) => return Err(error),
                // The first message is no bytes.
                Ok(Message::Started | Message::Bytes(_)) => return Ok(blob),
                Err(RecvTimeoutError::Timeout) if options.cancelled() => return Err(Error::Cancelled),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if rest == 0 => return Ok(blob),
                Err(RecvTimeoutError::Disconnected) => return Err(runtime.ended()),
            }
        }
    }
}

impl Drop for Blob<'_> {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.options.cancelled() {
            // Whoever asks the same question gets to ask it before this is taken for a failure.
            if !self.told {
                self.told = true;
                return Err(io::ErrorKind::Interrupted.into());
            }
            return Err(Error::Cancelled.into_io());
        }
        if self.piece.is_empty() {
            match self.take.recv_timeout(WAIT) {
                Ok(Message::Started) => return Err(io::ErrorKind::Interrupted.into()),
                Ok(Message::Bytes(bytes)) => self.piece = bytes,
                Ok(Message::Failed(error)) => return Err(error.into_io()),
                Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::Interrupted.into()),
                Err(RecvTimeoutError::Disconnected) if self.rest == 0 => return Ok(0),
                Err(RecvTimeoutError::Disconnected) => return Err(self.runtime.ended().into_io()),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        self.rest = self.rest.saturating_sub(count as u64);
        if self.piece.is_empty() {
            self.room.add_permits(1);
        }
        Ok(count)
    }
}

/// The work: it gives the bytes from `position` to `size`.
struct Stream {
    session: Arc<Session>,
    target: Target,
    position: u64,
    size: u64,
    started: bool,
    give: Sender<Message>,
    room: Arc<Semaphore>,
}

impl Stream {
    async fn run(mut self) {
        if let Err(error) = self.give_all().await {
            // Who has gone does not want to know.
            let _ = self.give.send(Message::Failed(error));
        }
    }

    async fn give_all(&mut self) -> Result<(), Error> {
        let mut attempts = self.session.attempts(self.position);
        while self.position < self.size {
            let Err(error) = self.pass().await else { continue };
            if self.position == self.size && error.is_transient(true) {
                // All is there; that the connection did not end well is nobody's loss.
                break;
            }
            match attempts.failed(error, self.position, self.session.was_reached()) {
                Ok(pause) => sleep(pause).await,
                // What was never got on with is told as it is.
                Err(error) if attempts.made() < 2 || !self.started => return Err(error),
                Err(error) => {
                    return Err(Error::GivenUp {
                        name: self.session.describe(&self.target),
                        position: self.position,
                        size: self.size,
                        attempts: attempts.made(),
                        source: Box::new(error),
                    });
                }
            }
        }
        Ok(())
    }

    /// One connection's part.
    async fn pass(&mut self) -> Result<(), Error> {
        let from = self.position;
        let mut response = self.session.get(&self.target, from).await?;
        let mut skip = self.check(&response, from)?;
        if !self.started {
            self.started = true;
            // The bytes show whether anybody listens.
            let _ = self.give.send(Message::Started);
        }
        let mut pace = self.session.transport().pace(self.size);
        while let Some(mut bytes) = self.session.transport().chunk(&mut response, &mut pace).await? {
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes.advance(known);
            skip -= known as u64;
            if bytes.is_empty() {
                continue;
            }
            let end = self.position.saturating_add(bytes.len() as u64);
            if end > self.size {
                return Err(self.length(end));
            }
            // It is never closed.
            if let Ok(permit) = self.room.acquire().await {
                permit.forget();
            }
            self.position = end;
            if self.give.send(Message::Bytes(bytes)).is_err() {
                // Nobody wants the rest.
                self.position = self.size;
                return Ok(());
            }
        }
        if self.position < self.size {
            let host = super::transport::host_of(response.url());
            let problem = format!("it ended at byte {} of {}", self.position, self.size);
            return Err(Error::Connection { host, what: "reading", problem });
        }
        Ok(())
    }

    /// Checks that an answer is what was asked for: how many of its bytes have to be passed over.
    fn check(&self, response: &Response, from: u64) -> Result<u64, Error> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            // From the start, whatever was asked for.
            return match response.content_length() {
                Some(length) if length != self.size => Err(self.length(length)),
                _ => Ok(from),
            };
        }
        let text = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let text = text.unwrap_or("no Content-Range");
        let other = || Error::Range {
            name: self.session.describe(&self.target),
            from,
            found: text.chars().take(100).collect(),
        };
        let (range, total) = parse_range(text).ok_or_else(other)?;
        if range.start != from || range.end > self.size || total.is_some_and(|total| total != self.size) {
            return Err(other());
        }
        match response.content_length() {
            Some(length) if length != range.end - range.start => Err(other()),
            _ => Ok(0),
        }
    }

    fn length(&self, found: u64) -> Error {
        Error::Length { name: self.session.describe(&self.target), expected: self.size, found }
    }
}

/// `bytes FIRST-LAST/TOTAL`, where the total may be `*`.
fn parse_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let end = last.checked_add(1).filter(|&end| end > first)?;
    Some((first..end, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5..10, Some(10))));
        assert_eq!(parse_range("bytes 0-0/*"), Some((0..1, None)));
        for text in
            ["", "bytes */10", "bytes 9-5/10", "5-9/10", "bytes 5-9", "bytes 0-18446744073709551615/*"]
        {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }
}
