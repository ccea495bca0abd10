//! The JSON schema of the file, made from the raw structs, for editors and for the walk over unknown keys.

use super::raw;
use schemars::generate::SchemaSettings;

/// JSON schema (draft 2020-12) of the configuration, all in one piece.
pub fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<raw::File>().to_value()
}
