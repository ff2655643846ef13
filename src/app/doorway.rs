//! What the web door is built from: sockets, prefix, access.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use url::Url;

use super::{Error, Options, WebOptions};
use crate::config;
use crate::net::{Deadline, Net};
use crate::web::{self, Access, Listeners, LookUp, Prefix, ProbeOptions, WebSpec};

/// Descriptors that one run of `/probe` may need: the client's, a socket or two of its own, a file.
const DESCRIPTORS_PER_RUN: u64 = 4;

/// How long the name of a listen address may take to look up.
const MAX_LOOKUP: Duration = Duration::from_secs(10);

/// The addresses of the name in a listen address.
pub(super) async fn look_up(host: &str, net: &Net) -> io::Result<Vec<IpAddr>> {
    let found = net.resolver.addresses(host, Deadline::after(MAX_LOOKUP)).await;
    found.map_err(|answer| io::Error::other(answer.to_string()))
}

/// Binds, or takes what systemd has bound.
pub(super) fn listeners(options: &Options, names: LookUp<'_>) -> Result<Listeners, Error> {
    if options.web.systemd_socket {
        return from_systemd()
            .map_err(|error| Error::Listen { address: "systemd\'s sockets".to_owned(), error });
    }
    web::bind(&options.listen, names).map_err(|(address, error)| Error::Listen { address, error })
}

fn from_systemd() -> io::Result<Listeners> {
    let mut passed = listenfd::ListenFd::from_env();
    let mut taken: Vec<TcpListener> = Vec::new();
    for index in 0..passed.len() {
        if let Some(listener) = passed.take_tcp_listener(index)? {
            listener.set_nonblocking(true)?;
            taken.push(listener);
        }
    }
    if taken.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "none were passed"));
    }
    Ok(taken.into())
}

/// The path below which everything is, by flag or as part of the external URL.
pub(super) fn prefix(web: &WebOptions, listen: &[String]) -> Result<Prefix, Error> {
    let external = external_url(web, listen)?;
    let path = match &web.route_prefix {
        Some(prefix) => prefix.clone(),
        None => external.path().to_owned(),
    };
    let shown = external.as_str().trim_end_matches('/');
    // A bare host needs its slash to be a URL that can be redirected to.
    let shown = if external.path() == "/" { external.as_str() } else { shown };
    Ok(Prefix::new(&path, shown))
}

fn external_url(web: &WebOptions, listen: &[String]) -> Result<Url, Error> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let own = || {
        let port = listen.first().and_then(|l| l.rsplit_once(':')).map(|(_, port)| port);
        let port = port.and_then(|port| port.parse::<u16>().ok());
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Url::parse(&format!("http://{host}{port}/"))
            .or_else(|_| Url::parse(&format!("http://localhost{port}/")))
            .map_err(|error| Error::Web(format!("--web.external-url: {error}")))
    };
    let Some(text) = web.external_url.as_deref().filter(|text| !text.is_empty()) else {
        if web.systemd_socket {
            let what = "--web.systemd-socket needs --web.external-url";
            return Err(Error::Web(what.to_owned()));
        }
        return own();
    };
    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        return Err(Error::Web("--web.external-url must not stand in quotes".to_owned()));
    }
    match Url::parse(text) {
        Ok(url) if !url.cannot_be_a_base() => Ok(url),
        Err(url::ParseError::RelativeUrlWithoutBase) if text.starts_with('/') => own()?
            .join(text)
            .map_err(|error| Error::Web(format!("--web.external-url {text:?}: {error}"))),
        Ok(_) => Err(Error::Web(format!("--web.external-url {text:?} is no URL of a web server"))),
        Err(error) => Err(Error::Web(format!("--web.external-url {text:?}: {error}"))),
    }
}

/// Who may come in, where a file says.
pub(super) fn access(web: &WebOptions) -> Result<Option<Arc<Access>>, Error> {
    let Some(path) = web.config_file.clone().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let (warned, read) = (std::sync::Once::new(), path.clone());
    let load = Box::new(move || load(&read, &warned));
    let access = Access::new(&path, load)
        .map_err(|error| Error::Web(format!("--web.config.file {}: {error}", path.display())))?;
    Ok(Some(Arc::new(access)))
}

fn load(path: &Path, warned: &std::sync::Once) -> Result<WebSpec, String> {
    let read = config::read_foreign::<WebSpec>(path, WebSpec::check);
    let (spec, odd) = read.map_err(|problems| problems.to_string())?;
    warned.call_once(|| {
        for warning in odd.iter() {
            tracing::warn!(problem = warning.to_string(), "the web configuration is odd");
        }
    });
    Ok(spec)
}

/// Asks for as many descriptors as the system grants: each run of a probe needs some.
pub(super) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("the limit of open files stays as it is");
    }
}

/// No more runs of `/probe` than there are descriptors for.
pub(super) fn within_descriptors(options: ProbeOptions) -> ProbeOptions {
    let Some(open) = getrlimit(Resource::Nofile).current else { return options };
    let most = usize::try_from(open / DESCRIPTORS_PER_RUN).unwrap_or(usize::MAX).max(1);
    if most < options.max_in_flight {
        tracing::info!(max_in_flight = most, open_files = open, "fewer probes may be in flight");
    }
    ProbeOptions { max_in_flight: options.max_in_flight.min(most), ..options }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(external: Option<&str>, route: Option<&str>) -> WebOptions {
        WebOptions {
            external_url: external.map(str::to_owned),
            route_prefix: route.map(str::to_owned),
            ..WebOptions::default()
        }
    }

    #[test]
    fn external_urls_are_taken_as_blackbox_exporter_takes_them() {
        let listen = [":9115".to_owned()];
        let accepted = |text| prefix(&web(Some(text), None), &listen).is_ok();
        for text in ["", "http://proxy.example/path", "https://proxy.example", "/only/a/path"] {
            assert!(accepted(text), "{text}");
        }
        for text in ["\"http://x\"", "'http://x'", "http://x'", "\"http://x", "mailto:a@b"] {
            assert!(!accepted(text), "{text}");
        }
        let systemd = WebOptions { systemd_socket: true, ..WebOptions::default() };
        assert!(prefix(&systemd, &listen).is_err());
    }

    #[test]
    fn the_prefix_is_the_path_of_the_url_unless_a_flag_says() {
        let shown = |external, route| format!("{:?}", prefix(&web(external, route), &[]).unwrap());
        let url = "http://p.example/watch/";
        assert!(shown(Some(url), None).contains("path: \"/watch\""));
        assert!(shown(Some(url), Some("/")).contains("path: \"\""));
        assert!(shown(None, Some("x/y/")).contains("path: \"/x/y\""));
        assert!(shown(Some(url), None).contains("\"http://p.example/watch\""));
    }
}
