//! Texts that a reviewer reads: kept in `tests/snapshots`, with what varies from run to run replaced.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Rewrites the texts that differ; never set in CI.
const ACCEPT: &str = "PORTLEASE_TEST_ACCEPT";

/// What is not the same in each run, and what stands for it.
#[derive(Default)]
pub(crate) struct Varying {
    numbers: Vec<(String, String)>,
    words: Vec<(String, String)>,
    programs: Vec<String>,
    after: Vec<(String, &'static str)>,
}

impl Varying {
    pub(crate) fn new() -> Varying {
        let mut varying = Varying::default();
        let tests = env::current_exe().unwrap();
        let name = tests.file_name().unwrap().to_str().unwrap();
        // The kernel's name for it is cut.
        varying.word(name, "TESTS").word(&name[..15], "TESTS");
        varying.word(env::current_dir().unwrap().to_str().unwrap(), "DIR");
        varying.program("test-child").program("child")
    }

    /// A pid or a port.
    pub(crate) fn number(mut self, number: impl ToString, name: &str) -> Varying {
        self.numbers.push((number.to_string(), name.to_owned()));
        self
    }

    /// This, and then the `other`.
    pub(crate) fn and(mut self, other: Varying) -> Varying {
        self.numbers.extend(other.numbers);
        self.words.extend(other.words);
        self.programs.extend(other.programs);
        self.after.extend(other.after);
        self
    }

    pub(crate) fn word(&mut self, word: &str, name: &str) -> &mut Varying {
        self.words.push((word.to_owned(), name.to_owned()));
        self
    }

    /// The file name of a program, whose path may be any.
    pub(crate) fn program(mut self, name: &str) -> Varying {
        self.programs.push(name.to_owned());
        self
    }

    /// A number after `words`, which nobody knows but who is tested.
    pub(crate) fn after(mut self, words: &str, name: &'static str) -> Varying {
        self.after.push((words.to_owned(), name));
        self
    }

    pub(crate) fn replace(&self, text: &str) -> String {
        let text: Vec<_> = text.lines().map(|line| self.programs_replaced(line)).collect();
        let mut text = text.join("\n");
        for (word, name) in &self.words {
            text = text.replace(word, name);
        }
        text = between(&text, "started ", " ago", "AGO").replace("AGO ago", "AGO");
        text = between(&text, ", for ", " s", "AGO").replace("AGO s", "AGO");
        text = between(&text, "-lname '*:?", "?'", "INODE");
        text = self.numbers_replaced(&text);
        for (words, name) in &self.after {
            text = number_after(&text, words, name);
        }
        for uid in [super::uid(), 0] {
            text = text.replace(&format!("uid {uid}:"), "uid UID:");
            text = text.replace(&format!("uid {uid},"), "uid UID,");
            text = text.replace(&format!("uid {uid};"), "uid UID;");
            text = between(&text, &format!("uid {uid} ("), ")", "");
            text = text.replace(&format!("uid {uid} ()"), "uid UID");
        }
        text
    }

    /// Words that are the path of a program.
    fn programs_replaced(&self, line: &str) -> String {
        let is_program = |word: &str| {
            let name = Path::new(word).file_name().and_then(|name| name.to_str());
            word.starts_with('/')
                && name.is_some_and(|it| self.programs.iter().any(|own| own == it))
        };
        let words = line.split(' ').map(|word| if is_program(word) { "PROGRAM" } else { word });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Whole numbers, and none of an IPv4 address.
    fn numbers_replaced(&self, text: &str) -> String {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let end = rest[start..].find(|c: char| !c.is_ascii_digit());
            let end = end.map_or(rest.len(), |end| start + end);
            let number = &rest[start..end];
            let is_part = |c: char| c.is_alphanumeric() || c == '.' || c == '_';
            let before = rest[..start].chars().next_back().or(replaced.chars().next_back());
            let after = &rest[end..];
            // A dot after it may end a sentence.
            let goes_on = after.starts_with(|c: char| c != '.' && is_part(c))
                || after.strip_prefix('.').is_some_and(|it| it.starts_with(is_part));
            // A pid and a port may be the same number; then the words tell.
            let is_port = [":", "port ", "ports "].iter().any(|it| rest[..start].ends_with(it));
            let mut alike = self.numbers.iter().filter(|(known, _)| known == number);
            let by_words = alike.clone().find(|(_, name)| name.starts_with("PORT") == is_port);
            let known = by_words.or_else(|| alike.next());
            let known = known.filter(|_| !before.is_some_and(is_part) && !goes_on);
            replaced.push_str(&rest[..start]);
            replaced.push_str(known.map_or(number, |(_, name)| name));
            rest = after;
        }
        replaced + rest
    }
}

/// Replaces what is between `start` and `end`, if it begins with a letter or a digit.
fn between(text: &str, start: &str, end: &str, by: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(start) {
        replaced.push_str(before);
        replaced.push_str(start);
        rest = after;
        let is_age = by.is_empty() || after.starts_with(|c: char| c.is_ascii_digit());
        if let (true, Some((inside, _))) = (is_age, after.split_once(end)) {
            replaced.push_str(by);
            rest = &after[inside.len()..];
        }
    }
    replaced + rest
}

fn number_after(text: &str, words: &str, name: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(words) {
        replaced.extend([before, words]);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() < after.len() {
            replaced.push_str(name);
        }
    }
    replaced + rest
}

/// Whether a look, or the last question before the end of a start, had not the time that it takes on a busy
/// machine.
pub(crate) fn lacked_time(text: &str) -> bool {
    ["there was no time to see who", "unseen: NoTime", "no answer within 0.2 s"]
        .iter()
        .any(|it| text.contains(it))
}

/// What a look says that had the time for it. `None`: it is not possible here.
pub(crate) fn in_time(mut look: impl FnMut() -> Option<String>) -> Option<String> {
    let mut text = None;
    super::eventually("there is time to look", || {
        text = look();
        !text.as_ref().is_some_and(|text| lacked_time(text))
    });
    text
}

/// One file of texts, each under a heading.
pub(crate) struct Snapshot {
    path: PathBuf,
    texts: Vec<(String, String)>,
}

impl Snapshot {
    pub(crate) fn new(name: &str) -> Snapshot {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
        Snapshot { path: dir.join(name).with_extension("txt"), texts: Vec::new() }
    }

    pub(crate) fn add(&mut self, heading: &str, text: String) {
        self.texts.push((heading.to_owned(), text.trim_end().to_owned()));
    }

    /// Compares with what is kept. Texts that could not be made here stay as they are; where all can be made
    /// (`PORTLEASE_TEST_ALL`, in CI), none is left over from a test that is gone.
    pub(crate) fn check(self) {
        let kept = fs::read_to_string(&self.path).unwrap_or_default();
        let mut all = parse(&kept);
        if env::var_os("PORTLEASE_TEST_ALL").is_some() {
            all.retain(|(kept, _)| self.texts.iter().any(|(heading, _)| heading == kept));
        }
        for (heading, text) in self.texts {
            match all.iter_mut().find(|(kept, _)| *kept == heading) {
                Some((_, kept)) => *kept = text,
                None => all.push((heading, text)),
            }
        }
        let all: Vec<_> =
            all.iter().map(|(heading, text)| format!("== {heading}\n{text}\n")).collect();
        let found = all.join("\n");
        if found == kept {
            return;
        }
        if env::var_os(ACCEPT).is_some() {
            fs::create_dir_all(self.path.parent().unwrap()).unwrap();
            fs::write(&self.path, found).unwrap();
            return;
        }
        panic!(
            "{} differs (`-` is kept, `+` is new); if the new text is right, {ACCEPT}=1 keeps it\n{}",
            self.path.display(),
            diff(&kept, &found)
        );
    }
}

fn parse(kept: &str) -> Vec<(String, String)> {
    let texts = kept.split("== ").skip(1).filter_map(|text| text.split_once('\n'));
    texts.map(|(heading, text)| (heading.to_owned(), text.trim_end().to_owned())).collect()
}

/// By the longest common run of lines, which is short enough to be looked for plainly.
fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!("  {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines.join("\n")
}
