//! An HTTP server on loopback that answers as a test wants it to.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its header lines, `name: value`, without Content-Length.
    pub headers: Vec<String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// 200 with a body of a media type.
    #[must_use]
    pub fn ok(media_type: &str, body: Vec<u8>) -> Self {
        Self { status: 200, headers: vec![format!("content-type: {media_type}")], body }
    }

    /// 200 with a TimeStampResp.
    #[must_use]
    pub fn time_stamp(body: Vec<u8>) -> Self {
        Self::ok("application/timestamp-reply", body)
    }

    /// A status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Request line and header lines.
    pub head: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ &String| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.iter().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

/// How it answers; `None` is silence until the server ends.
type Answer = Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

struct State {
    answer: Mutex<Arc<Answer>>,
    requests: AtomicUsize,
    ended: AtomicBool,
    silent: Mutex<Vec<TcpStream>>,
}

/// The server; it ends when dropped.
pub struct Responder {
    address: SocketAddr,
    state: Arc<State>,
    listening: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts one on a free port of 127.0.0.1.
    #[must_use]
    pub fn start(answer: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Mutex::new(Arc::new(Box::new(answer))),
            requests: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            silent: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        let listening = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let serving = Arc::clone(&serving);
                // A client that goes away in the middle is part of some tests.
                thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        Self { address, state, listening: Some(listening) }
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers differently from now on.
    pub fn answer(&self, answer: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) {
        *self.state.answer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Box::new(answer));
    }

    /// How many requests have come.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let seen = read(&stream)?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        let answer = Arc::clone(&self.answer.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(reply) = answer(&seen) else {
            self.silent.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            return Ok(());
        };
        let mut head = format!("HTTP/1.1 {} -\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
        reply.headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
        stream.write_all(&reply.body)
    }
}

fn read(stream: &TcpStream) -> io::Result<Seen> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let mut seen = Seen { head, body: Vec::new() };
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    seen.body.resize(length, 0);
    reader.read_exact(&mut seen.body)?;
    Ok(seen)
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        // Wakes the loop, which sees that it has ended.
        drop(TcpStream::connect(self.address));
        // Its port is free when it has ended.
        drop(self.listening.take().map(JoinHandle::join));
        self.state.silent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responder({})", self.url())
    }
}
