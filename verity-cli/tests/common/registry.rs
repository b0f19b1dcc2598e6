//! A real registry on loopback, and a proxy before it that can break what passes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::{Run, Sandbox};

/// Who the registries with a password know: `user`, with this password.
pub(crate) const PASSWORD: &str = "pass-word";

/// Debian's docker-registry, with its storage in the sandbox. It ends with the test.
pub(crate) struct Registry {
    program: Child,
    pub(crate) host: String,
}

/// Who may come, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    Password,
    /// With TLS, by a certificate that `folder/registry.crt` vouches for.
    Tls,
}

impl Registry {
    pub(crate) fn start(sandbox: &Sandbox, folder: &str, access: Access) -> Self {
        let dir = sandbox.path(folder);
        fs::create_dir(&dir).unwrap();
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage:\n  delete: {{enabled: true}}\n  \
             filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:0\n",
            file("storage")
        );
        match access {
            Access::Open => {}
            Access::Password => {
                // htpasswd -nbB user pass-word
                let line = Command::new("htpasswd").args(["-nbB", "user", PASSWORD]).output().unwrap();
                fs::write(file("htpasswd"), line.stdout).unwrap();
                config += &format!("auth: {{htpasswd: {{realm: tests, path: {}}}}}\n", file("htpasswd"));
            }
            Access::Tls => {
                let (key, certificate) = (file("registry.key"), file("registry.crt"));
                let line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tests \
                            -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
                Run::of(Command::new("openssl").args(line.split_whitespace()).args([
                    "-keyout",
                    &key,
                    "-out",
                    &certificate,
                ]))
                .is_good();
                config += &format!("  tls: {{certificate: {certificate}, key: {key}}}\n");
            }
        }
        fs::write(file("config.yml"), config).unwrap();
        let mut program = Command::new("docker-registry")
            .args(["serve", &file("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stderr.take().unwrap()).lines().map(Result::unwrap);
        let listening = lines.by_ref().find_map(|line| {
            let (_, address) = line.split_once("listening on ")?;
            Some(address.chars().take_while(|letter| !matches!(letter, '"' | ',' | ' ')).collect::<String>())
        });
        // A pipe that is full would stop it.
        thread::spawn(move || lines.for_each(drop));
        Self { program, host: listening.expect("the registry did not start") }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }
}

/// Passes connections on, and breaks some that answer much.
pub(crate) struct Proxy {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
    /// How many connections were broken.
    pub(crate) broken: Arc<AtomicU64>,
}

impl Proxy {
    /// Breaks connections, `times` of them, after so many bytes of answers.
    pub(crate) fn breaking(host: &str, after: u64, times: u64) -> Self {
        Self::new(host.to_owned(), after, times, false)
    }

    /// Falls silent on each connection after so many bytes.
    pub(crate) fn silent(host: &str, after: u64) -> Self {
        Self::new(host.to_owned(), after, u64::MAX, true)
    }

    fn new(host: String, after: u64, times: u64, silent: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (over, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (stop, count, streams) = (Arc::clone(&over), Arc::clone(&broken), Arc::clone(&open));
        let thread = thread::spawn(move || {
            let mut workers = Vec::new();
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let client = client.unwrap();
                let server = TcpStream::connect(&host).unwrap();
                streams.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                workers.push(thread::spawn(move || {
                    // Either side may go at any time.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                }));
                let count = Arc::clone(&count);
                workers.push(thread::spawn(move || answers(server, client, after, times, silent, &count)));
            }
            for stream in streams.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            for worker in workers {
                worker.join().unwrap();
            }
        });
        Self { address, over, open, thread: Some(thread), broken }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }
}

/// Passes answers on, up to a point.
fn answers(
    mut server: TcpStream,
    mut client: TcpStream,
    after: u64,
    times: u64,
    silent: bool,
    broken: &AtomicU64,
) {
    let mut buffer = [0; 16 * 1024];
    let mut passed = 0;
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        if client.write_all(&buffer[..count]).is_err() {
            break;
        }
        passed += count as u64;
        if passed >= after
            && broken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < times).then_some(n + 1))
                .is_ok()
        {
            if silent {
                // Until the proxy ends, which closes both.
                while let Ok(1..) = client.peek(&mut buffer) {
                    thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the one who waits for connections.
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
        drop(self.open.lock().unwrap());
    }
}

impl Run {
    /// It went well, whatever was said.
    #[track_caller]
    pub(crate) fn is_good(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }
}
