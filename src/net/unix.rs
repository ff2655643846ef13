//! Opening a connection to a Unix socket, with the ways in which that fails told apart.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UnixStream;

use super::dial::ours;
use super::{Deadline, Stopwatch};
use crate::model::{Answer, Fault, Phase, Unknown};

/// How long to wait before asking again at a socket whose queue is full: the kernel tells nobody when it has room.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// Connects to the socket at `path` within the deadline, in the phase `connect`. A path that begins with `@` is a name of
/// Linux's abstract namespace, as `ss` and Go write it.
pub async fn dial_unix(
    path: &str,
    deadline: Deadline,
    watch: &mut Stopwatch,
) -> Result<UnixStream, Answer> {
    watch.enter(Phase::Connect);
    let address = match path.strip_prefix('@') {
        Some(name) => format!("\0{name}"),
        None => path.to_owned(),
    };
    let budget = deadline.left();
    let late = || Answer::from(Fault::SocketTimeout { path: path.into(), budget });
    loop {
        let connected = deadline.limit(UnixStream::connect(&address)).await.map_err(|_| late())?;
        match connected {
            Ok(stream) => {
                watch.stop();
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let pause = tokio::time::sleep(FULL_QUEUE_PAUSE);
                deadline.limit(pause).await.map_err(|_| late())?;
            }
            Err(error) => return Err(failed(&error, path)),
        }
    }
}

fn failed(error: &io::Error, path: &str) -> Answer {
    if let Some(answer) = ours(error) {
        return answer;
    }
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => Fault::SocketRefused { path: path.into() }.into(),
        Some(_) => {
            Fault::SocketUnreachable { path: path.into(), detail: error.to_string().into() }.into()
        }
        // Too long for the kernel, or with a zero byte inside.
        None => Unknown::Setup(format!("{path:?}: {error}").into()).into(),
    }
}
