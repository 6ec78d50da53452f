//! Child processes that never outlive the process that started them.
//!
//! The child begins as a shell that starts a watchdog and then becomes the program (`exec`), so the
//! child's id is the program's. The watchdog reads a pipe whose other end this process holds: when
//! this process ends, in whatever way, even by SIGKILL, the pipe closes and the watchdog kills.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Kills the program when the pipe closes, then removes the folder named in the first argument, if
/// any: twice, since what was killed may have been writing.
const WATCHDOG: &str = r#"
folder=$1; shift
exec 3<&0 </dev/null
( cat <&3; kill -KILL $$; if [ -n "$folder" ]; then rm -rf "$folder"; sleep 1; rm -rf "$folder"; fi ) >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;

/// A program to be started.
pub struct Spawn {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    output: Stdio,
    errors: Stdio,
    remove: Option<PathBuf>,
}

impl Spawn {
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            output: Stdio::null(),
            errors: Stdio::null(),
            remove: None,
        }
    }

    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn stdout(mut self, output: impl Into<Stdio>) -> Self {
        self.output = output.into();
        self
    }

    #[must_use]
    pub fn stderr(mut self, errors: impl Into<Stdio>) -> Self {
        self.errors = errors.into();
        self
    }

    /// Writes both outputs to a file.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn log_to(self, path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(self.stdout(file.try_clone()?).stderr(file))
    }

    /// Removes a folder when this process ends without having stopped the program.
    #[must_use]
    pub fn remove_afterwards(mut self, folder: &Path) -> Self {
        self.remove = Some(folder.to_owned());
        self
    }

    /// Starts it, in a process group of its own: a terminal's Ctrl-C is for this process to act on.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(self) -> io::Result<GuardedChild> {
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCHDOG, "sh"])
            .arg(self.remove.unwrap_or_default())
            .arg(&self.program)
            .args(&self.arguments);
        command.envs(self.environment).stdin(Stdio::piped()).stdout(self.output).stderr(self.errors).process_group(0);
        Ok(GuardedChild { child: command.spawn()? })
    }
}

/// A running program that ends at the latest when this process does.
pub struct GuardedChild {
    child: Child,
}

impl GuardedChild {
    /// The process id of the program itself.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, if that was piped.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        // Not `Child::wait`: that would close the pipe first, and wake the watchdog.
        while self.child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Sends a signal by its name, such as TERM, STOP or CONT.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name} failed"))) }
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end, so long at the most.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn wait_for(&mut self, longest: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + longest;
        loop {
            match self.child.try_wait()? {
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                ended => return Ok(ended),
            }
        }
    }
}

impl Drop for GuardedChild {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
