package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// object is a piece of JSON Schema.
type object map[string]any

// referencePattern recognises a text with a reference in it, which stands for a value of any scalar type.
const referencePattern = `\$\{(env|file):[^}]+\}`

// Schema describes T as a JSON Schema (draft 2020-12), so that editors complete and check a configuration as it is
// written. What the schema refuses, Load refuses too; Load refuses more.
func Schema[T any]() ([]byte, error) {
	s := &schema{defs: object{"reference": object{
		"type":        "string",
		"pattern":     referencePattern,
		"description": "A value from the environment, ${env:NAME}, or from a file, ${file:/path}.",
	}}}
	root := s.structure(reflect.TypeFor[T]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Sallyport configuration"
	root["$defs"] = s.defs
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		return nil, fmt.Errorf("writing schema: %w", err)
	}
	return text.Bytes(), nil
}

// schema gathers the struct types that the properties refer to.
type schema struct{ defs object }

// structure describes a struct with exactly its keys.
func (s *schema) structure(t reflect.Type) object {
	properties := object{}
	var required []string
	for _, f := range fieldsOf(t) {
		properties[f.name] = s.property(f)
		if f.required {
			required = append(required, f.name)
		}
	}
	made := object{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		made["required"] = required
	}
	if doc := documentation(t.PkgPath() + "." + t.Name()); doc != "" {
		made["description"] = doc
	}
	return made
}

// property describes one key: its type with what its tags and its comment add.
func (s *schema) property(f field) object {
	made := s.typed(f.typ, f.rules, f.required)
	if doc := documentation(f.doc); doc != "" {
		made["description"] = doc
	}
	if f.fallback != "" {
		made["default"] = defaultValue(f)
	}
	return made
}

func (s *schema) typed(t reflect.Type, r rules, required bool) object {
	switch {
	case isScalar(t):
		return scalarSchema(t, r, required)
	case t.Kind() == reflect.Pointer:
		return s.typed(t.Elem(), r, required)
	case t.Kind() == reflect.Struct:
		return s.mapping(t)
	case t.Kind() == reflect.Slice:
		return s.list(t, r, required)
	}
	table := object{"type": "object", "additionalProperties": s.typed(t.Elem(), r.element(), false)}
	if required {
		table["minProperties"] = 1
	}
	return table
}

// mapping is a struct, or the one value that may stand for it.
func (s *schema) mapping(t reflect.Type) object {
	whole := s.reference(t)
	for _, f := range fieldsOf(t) {
		if f.short {
			return object{"anyOf": []any{s.typed(f.typ, f.rules, f.required), whole}}
		}
	}
	return whole
}

// reference names a struct type, described once.
func (s *schema) reference(t reflect.Type) object {
	name := strings.ReplaceAll(t.String(), ".", "_")
	if s.defs[name] == nil {
		s.defs[name] = object{} // a type may contain itself
		s.defs[name] = s.structure(t)
	}
	return object{"$ref": "#/$defs/" + name}
}

func (s *schema) list(t reflect.Type, r rules, required bool) object {
	element := s.typed(t.Elem(), r.element(), false)
	list := object{"type": "array", "items": element}
	if required {
		list["minItems"] = 1
	}
	if r.single {
		return object{"anyOf": []any{list, element}}
	}
	return list
}

// scalarSchema describes a scalar. Anything but free text may also be a reference.
func scalarSchema(t reflect.Type, r rules, required bool) object {
	text := object{"type": "string"}
	if isText(t) && (numeric(t) || r.number) {
		text["type"] = []string{"string", "integer"}
	}
	if required {
		text["minLength"] = 1
	}
	switch {
	case r.enum != nil:
		return orReference(object{"enum": r.enum})
	case !isText(t):
		return orReference(number(t))
	}
	pattern := patternFor(t)
	if pattern == "" {
		return text
	}
	text["pattern"] = pattern
	return orReference(text)
}

func orReference(s object) object {
	return object{"anyOf": []any{s, object{"$ref": "#/$defs/reference"}}}
}

func number(t reflect.Type) object {
	switch {
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case t.Kind() == reflect.Float64:
		return object{"type": "number"}
	case reflect.Zero(t).CanUint():
		return object{"type": "integer", "minimum": 0}
	}
	return object{"type": "integer"}
}

// patternFor returns a regular expression that every acceptable text of the type matches, or nothing.
func patternFor(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return durationPattern
	case reflect.TypeFor[netip.Addr]():
		return `^[0-9A-Fa-f:.]+(%.+)?$`
	case reflect.TypeFor[netip.AddrPort]():
		return `^(\[[^\]]+\]|[0-9.]+):[0-9]{1,5}$`
	case reflect.TypeFor[netip.Prefix]():
		return `^[0-9A-Fa-f:.]+/[0-9]{1,3}$`
	}
	if p, ok := reflect.New(t).Interface().(interface{ Pattern() string }); ok {
		return p.Pattern()
	}
	return ""
}

// defaultValue is the default as it would be written in the file.
func defaultValue(f field) any {
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice && !isScalar(t) {
		return strings.Split(f.fallback, ",")
	}
	if isText(t) {
		return f.fallback
	}
	return json.RawMessage(f.fallback)
}
