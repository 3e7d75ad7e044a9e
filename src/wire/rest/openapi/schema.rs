//! Messages and fields as schemas.

use std::collections::BTreeMap;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    Value as Reflected,
};
use serde_json::{Map, Value, json};

use super::comments::Comments;
use crate::wire::rest::transcode::{
    scalar::{DURATION, FIELD_MASK, TIMESTAMP},
    structure::is_structure,
};

/// Values of `google.api.field_behavior`.
const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
const ANY: &str = "google.protobuf.Any";
const STRUCT: &str = "google.protobuf.Struct";

/// Makes schemas, and remembers which messages they refer to.
#[derive(Debug)]
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    behavior: Option<ExtensionDescriptor>,
    /// Referred to, by the name of their schema.
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
}

impl<'a> Schemas<'a> {
    /// Of the messages in `pool`.
    pub(super) fn new(pool: &DescriptorPool, comments: &'a Comments) -> Self {
        Self {
            comments,
            behavior: pool.get_extension_by_name("google.api.field_behavior"),
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
        }
    }

    /// A message.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            TIMESTAMP => json!({"type": "string", "format": "date-time"}),
            DURATION => json!({"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"}),
            FIELD_MASK => {
                json!({"type": "string", "description": "Names of fields, separated by commas."})
            }
            ANY => json!({
                "type": "object",
                "properties": {"@type": {"type": "string"}},
                "additionalProperties": true,
            }),
            STRUCT => json!({"type": "object", "additionalProperties": true}),
            name if is_structure(name) => json!({}),
            _ => {
                let name = schema_name(message.full_name(), message.package_name());
                let reference = reference(&name);
                self.messages.insert(name, message.clone());
                reference
            }
        }
    }

    /// A request as an object, without the fields that its path gives. What the path gives a field of is a resource of
    /// which only a part is sent: nothing of it is required, nor is the mask, which may be in the query.
    pub(super) fn request(
        &mut self,
        message: &MessageDescriptor,
        given: &[Vec<FieldDescriptor>],
    ) -> Value {
        let mut object = self.object(message);
        for path in given {
            match path.as_slice() {
                [field] => leave_out(&mut object, field.json_name()),
                [resource, field] => {
                    let Kind::Message(inner) = resource.kind() else {
                        continue;
                    };
                    let mut part = self.object(&inner);
                    leave_out(&mut part, field.json_name());
                    if let Some(part) = part.as_object_mut() {
                        part.remove("required");
                    }
                    object["properties"][resource.json_name()] = part;
                }
                _ => {}
            }
        }
        for field in message.fields() {
            if is_mask(&field) {
                unrequire(&mut object, field.json_name());
            }
        }
        object
    }

    /// The fields of a message as an object.
    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in message.fields() {
            if self.is_required(&field) {
                required.push(field.json_name().to_owned());
            }
            properties.insert(field.json_name().to_owned(), self.field(&field));
        }
        let mut object = json!({"type": "object", "additionalProperties": false});
        if !properties.is_empty() {
            object["properties"] = properties.into();
        }
        if !required.is_empty() {
            object["required"] = required.into();
        }
        let mut description = self
            .comments
            .of(&message.parent_file(), message.path())
            .to_owned();
        for oneof in message.oneofs() {
            let fields: Vec<_> = oneof.fields().collect();
            if fields.len() > 1 {
                let names: Vec<_> = fields.iter().map(FieldDescriptor::json_name).collect();
                description.push_str("\n\nAt most one of these is set: ");
                description.push_str(&names.join(", "));
                description.push('.');
            }
        }
        describe(&mut object, &description);
        object
    }

    /// Whether a request has to have the field.
    pub(super) fn is_required(&self, field: &FieldDescriptor) -> bool {
        self.behaves(field, REQUIRED)
    }

    /// A field with its documentation.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let values = self.value(&entry.map_entry_value_field());
            json!({"type": "object", "additionalProperties": values})
        } else if field.is_list() {
            json!({"type": "array", "items": self.value(field)})
        } else {
            self.value(field)
        };
        let description = self.comments.of(&field.parent_file(), field.path());
        describe(&mut schema, description);
        if self.behaves(field, OUTPUT_ONLY) {
            schema["readOnly"] = true.into();
        }
        let options = field.field_descriptor_proto().options.as_ref();
        if options.is_some_and(prost_types::FieldOptions::deprecated) {
            schema["deprecated"] = true.into();
        }
        schema
    }

    /// One value of a field.
    fn value(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Float | Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({
                "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX,
            }),
            Kind::Uint32 | Kind::Fixed32 => json!({
                "type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX,
            }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"})
            }
            Kind::Message(message) => self.message(&message),
            Kind::Enum(one) => {
                let name = schema_name(one.full_name(), one.package_name());
                let reference = reference(&name);
                self.enums.insert(name, one);
                reference
            }
        }
    }

    fn behaves(&self, field: &FieldDescriptor, behavior: i32) -> bool {
        let Some(extension) = &self.behavior else {
            return false;
        };
        let options = field.options();
        let Reflected::List(behaviors) = &*options.get_extension(extension) else {
            return false;
        };
        let mut numbers = behaviors.iter().filter_map(Reflected::as_enum_number);
        numbers.any(|number| number == behavior)
    }

    /// The schemas of everything that was referred to, and of what they refer to.
    pub(super) fn referred(mut self) -> Map<String, Value> {
        let mut schemas = Map::new();
        while let Some((name, message)) = self.messages.pop_first() {
            if !schemas.contains_key(&name) {
                let object = self.object(&message);
                schemas.insert(name, object);
            }
        }
        for (name, one) in &self.enums {
            schemas.insert(name.clone(), self.names(one));
        }
        schemas
    }

    /// An enum, by the names of its values.
    fn names(&self, one: &EnumDescriptor) -> Value {
        let file = one.parent_file();
        let mut description = self.comments.of(&file, one.path()).to_owned();
        let names: Vec<_> = one
            .values()
            .map(|value| {
                let about = self.comments.of(&file, value.path()).replace('\n', " ");
                description.push_str("\n- `");
                description.push_str(value.name());
                description.push_str("`: ");
                description.push_str(&about);
                value.name().to_owned()
            })
            .collect();
        let mut schema = json!({"type": "string", "enum": names});
        describe(&mut schema, &description);
        schema
    }
}

/// Whether the field is a mask, which may be in a request's query.
pub(super) fn is_mask(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == FIELD_MASK)
}

fn leave_out(object: &mut Value, name: &str) {
    if let Some(properties) = object["properties"].as_object_mut() {
        properties.remove(name);
    }
    unrequire(object, name);
}

fn unrequire(object: &mut Value, name: &str) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(required)) = fields.get_mut("required") {
        required.retain(|one| one != name);
        if required.is_empty() {
            fields.remove("required");
        }
    }
}

fn describe(schema: &mut Value, description: &str) {
    let description = description.trim();
    if !description.is_empty() {
        schema["description"] = description.into();
    }
}

/// The name within the package, which is what people call it.
fn schema_name(full_name: &str, package: &str) -> String {
    let name = full_name.strip_prefix(package).unwrap_or(full_name);
    name.trim_start_matches('.').to_owned()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}
