//! A route's SQL with its named parameters bound to argument positions, and the way back from an error's
//! position in the rendered text to line and column of the text that the operator wrote.

use super::{DatabaseError, LoadSpec};
use crate::config::sql::{self, NamedSql, Piece};

/// SQL whose parameters are known by the index of the argument that they bind to.
pub(super) struct Template {
    named: NamedSql,
    /// For each parameter of `named`, its argument.
    arguments: Vec<usize>,
}

impl Template {
    /// Binds the names in the SQL to [`LoadSpec::parameters`]; each must know the other.
    pub(super) fn new(spec: &LoadSpec) -> Result<Template, DatabaseError> {
        let named = sql::parse(&spec.sql)
            .map_err(|error| DatabaseError::Statement(format!("{}: {}", error.message, error.hint)))?;
        let arguments = named.parameters.iter().map(|name| argument_of(spec, name)).collect::<Result<Vec<_>, _>>()?;
        match (0..spec.parameters.len()).find(|argument| !arguments.contains(argument)) {
            Some(unused) => {
                let name = &spec.parameters[unused];
                Err(DatabaseError::Statement(format!("the statement does not use the parameter :{name}")))
            }
            None => Ok(Template { named, arguments }),
        }
    }

    /// The statement with `placeholder(argument)` for each parameter.
    pub(super) fn render(&self, mut placeholder: impl FnMut(usize) -> String) -> String {
        self.named.render(|index| placeholder(self.arguments[index]))
    }

    /// "line 1, column 8" of the operator's text for the `offset`-th character of what `render` wrote, from 0.
    pub(super) fn place(&self, offset: usize, mut placeholder: impl FnMut(usize) -> String) -> String {
        let mut left = offset;
        let (mut line, mut column) = (1, 1);
        for piece in &self.named.pieces {
            let (written, rendered) = match piece {
                Piece::Text(text) => (text.clone(), text.chars().count()),
                Piece::Parameter(index) => {
                    let name = format!(":{}", self.named.parameters[*index]);
                    (name, placeholder(self.arguments[*index]).chars().count())
                }
            };
            let inside = left < rendered;
            // Inside a parameter only its start means anything.
            let taken = if !inside {
                usize::MAX
            } else if matches!(piece, Piece::Text(_)) {
                left
            } else {
                0
            };
            for character in written.chars().take(taken) {
                (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            if inside {
                break;
            }
            left -= rendered;
        }
        format!("line {line}, column {column}")
    }
}

fn argument_of(spec: &LoadSpec, name: &str) -> Result<usize, DatabaseError> {
    spec.parameters.iter().position(|parameter| parameter == name).ok_or_else(|| {
        DatabaseError::Statement(format!("the key pattern has no part {{{name}}} for the parameter :{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Encoding, Rows};

    fn template(sql: &str, parameters: &[&str]) -> Result<Template, DatabaseError> {
        let parameters = parameters.iter().map(|name| (*name).to_owned()).collect();
        Template::new(&LoadSpec {
            sql: sql.into(),
            parameters,
            rows: Rows::One,
            encoding: Encoding::Json,
            tag_columns: Vec::new(),
        })
    }

    #[test]
    fn parameters_bind_by_name_and_not_by_order_of_use() {
        let template = template("SELECT :b, :a, :b", &["a", "b"]).unwrap();
        assert_eq!(template.render(|argument| format!("${}", argument + 1)), "SELECT $2, $1, $2");
    }

    #[test]
    fn a_place_in_rendered_text_is_a_place_in_the_text_as_written() {
        let template = template("SELECT :identity,\n  wrong FROM t", &["identity"]).unwrap();
        let rendered = template.render(|_| "$1".into());
        let offset = rendered.find("wrong").unwrap();
        assert_eq!(template.place(offset, |_| "$1".into()), "line 2, column 3");
        assert_eq!(template.place(8, |_| "$1".into()), "line 1, column 8");
    }

    #[test]
    fn names_that_only_one_side_knows_are_refused() {
        assert!(template("SELECT :a", &[]).is_err());
        assert!(template("SELECT 1", &["a"]).is_err());
    }
}
