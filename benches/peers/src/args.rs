//! Options. The usage text is their definition: a line that begins with `--name VALUE` is an option with a
//! value, one with `--name` alone is a flag.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::process;
use std::str::FromStr;

/// The options that were given.
#[derive(Debug)]
pub struct Args {
    given: BTreeMap<String, String>,
}

impl Args {
    /// Of this process. Ends it with the usage if that is asked for, or if an option is unknown.
    pub fn parse(usage: &str) -> Args {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        if arguments.iter().any(|argument| argument == "--help") {
            println!("{usage}");
            process::exit(0);
        }
        Args::read(usage, arguments).unwrap_or_else(|problem| give_up(problem))
    }

    fn read(usage: &str, arguments: Vec<String>) -> Result<Args, String> {
        let mut given = BTreeMap::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let known = usage.lines().find_map(|line| {
                let mut words = line.split_whitespace();
                let takes_value = |word: &str| word.chars().all(char::is_uppercase);
                (words.next()? == argument).then(|| words.next().is_some_and(takes_value))
            });
            let value = match known {
                None => return Err(format!("there is no option {argument}; --help lists them")),
                Some(false) => String::new(),
                Some(true) => arguments.next().ok_or(format!("{argument} needs a value"))?,
            };
            given.insert(argument, value);
        }
        Ok(Args { given })
    }

    /// Whether `flag` was given.
    pub fn has(&self, flag: &str) -> bool {
        self.given.contains_key(flag)
    }

    /// The value of `option`, if it was given.
    pub fn text(&self, option: &str) -> Option<&str> {
        self.given.get(option).map(String::as_str)
    }

    /// The value of `option`, a number for instance.
    pub fn value<T: FromStr<Err: Display>>(&self, option: &str, default: T) -> T {
        match self.text(option).map(T::from_str) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(error)) => give_up(format_args!("{option}: {error}")),
        }
    }

    /// The values of `option`, with commas between them.
    pub fn list<T: Clone + FromStr<Err: Display>>(&self, option: &str, default: &[T]) -> Vec<T> {
        let Some(text) = self.text(option) else { return default.to_vec() };
        let value = |part: &str| {
            T::from_str(part).unwrap_or_else(|error| give_up(format_args!("{option}: {error}")))
        };
        text.split(',').map(value).collect()
    }
}

/// Ends the process: what was asked for cannot be done.
pub fn give_up(problem: impl Display) -> ! {
    eprintln!("{problem}");
    process::exit(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = "usage: program\n\n  --many N   so many\n  --loud     a flag";

    fn read(arguments: &[&str]) -> Result<Args, String> {
        Args::read(USAGE, arguments.iter().map(|&argument| argument.to_owned()).collect())
    }

    #[test]
    fn the_usage_is_the_definition() {
        let args = read(&["--loud", "--many", "1,2"]).unwrap();
        assert!(args.has("--loud"));
        assert_eq!(args.list("--many", &[0]), [1, 2]);
        assert_eq!(args.value("--absent", 7), 7);
        assert!(read(&["--few"]).is_err());
        assert!(read(&["--many"]).is_err());
    }
}
