//! The JSON schema of the file, made from the raw structs, for editors and for the walk over unknown keys.

use super::raw;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// JSON schema (draft 2020-12) of the configuration, all in one piece.
pub fn schema() -> Value {
    schema_of::<raw::File>()
}

/// The same of a file of users.
pub fn users_schema() -> Value {
    schema_of::<raw::UsersFile>()
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    drop_nulls(&mut schema);
    schema
}

/// A key that may be left out is an `Option` to serde, and so `null` to the schema; TOML has no null.
fn drop_nulls(schema: &mut Value) {
    match schema {
        Value::Object(entries) => {
            if let Some(Value::Array(types)) = entries.get("type") {
                let only = types.iter().find(|name| *name != "null").cloned();
                entries.insert("type".into(), only.unwrap_or_default());
            }
            if let Some(Value::Array(choices)) = entries.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            entries.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
