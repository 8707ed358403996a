package policy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sallyport/policy/schema"
)

// The schemas say of each field what the Go types say: its name, its kind, and whether it may be absent.
func TestSchemasAreTheTypes(t *testing.T) {
	for name, s := range map[string]struct {
		schema any
		typ    reflect.Type
	}{
		"input":    {schema.Input(), reflect.TypeFor[Input]()},
		"data":     {schema.Data(), reflect.TypeFor[configData]()},
		"decision": {schema.Decision(), reflect.TypeFor[Decision]()},
	} {
		for _, difference := range differences(name, s.schema.(map[string]any), s.typ) {
			t.Error(difference)
		}
	}
}

func TestSchemaDifferencesAreSeen(t *testing.T) {
	for name, change := range map[string]func(subject map[string]any){
		"missing":  func(s map[string]any) { delete(s["properties"].(map[string]any), "email") },
		"extra":    func(s map[string]any) { s["properties"].(map[string]any)["nick"] = map[string]any{"type": "string"} },
		"type":     func(s map[string]any) { s["properties"].(map[string]any)["email"] = map[string]any{"type": "integer"} },
		"required": func(s map[string]any) { s["required"] = append(s["required"].([]any), "email") },
		"open":     func(s map[string]any) { delete(s, "additionalProperties") },
	} {
		t.Run(name, func(t *testing.T) {
			in := schema.Input().(map[string]any)
			change(in["properties"].(map[string]any)["subject"].(map[string]any))
			if len(differences("input", in, reflect.TypeFor[Input]())) == 0 {
				t.Error("got no difference")
			}
		})
	}
}

func differences(path string, s map[string]any, typ reflect.Type) (list []string) {
	tell := func(text string) { list = append(list, path+": "+text) }
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := schemaType(typ)
	if s["type"] != want {
		tell("the schema has another type than " + want)
	}
	switch {
	case typ == reflect.TypeFor[Age](), want != "array" && want != "object":
	case want == "array":
		list = append(list, differences(path+"[]", s["items"].(map[string]any), typ.Elem())...)
	case typ.Kind() == reflect.Map:
		if below, ok := s["additionalProperties"].(map[string]any); ok {
			list = append(list, differences(path+"{}", below, typ.Elem())...)
		} else if typ.Elem().Kind() != reflect.Interface {
			tell("the schema says nothing of its values")
		}
	default:
		list = append(list, structDifferences(path, s, typ)...)
	}
	return list
}

func structDifferences(path string, s map[string]any, typ reflect.Type) (list []string) {
	if s["additionalProperties"] != false {
		list = append(list, path+": the schema allows unknown fields")
	}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	known := map[string]bool{}
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "" {
			continue
		}
		known[name] = true
		below, ok := properties[name].(map[string]any)
		if !ok {
			list = append(list, path+"."+name+": not in the schema")
			continue
		}
		if optional := options != ""; optional == slices.Contains(required, any(name)) {
			list = append(list, path+"."+name+": present or absent in one, not in the other")
		}
		list = append(list, differences(path+"."+name, below, f.Type)...)
	}
	for name := range properties {
		if !known[name] {
			list = append(list, path+"."+name+": in the schema only")
		}
	}
	return list
}

func schemaType(typ reflect.Type) string {
	if typ == reflect.TypeFor[Age]() {
		return "integer"
	}
	switch typ.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Slice, reflect.Array:
		return "array"
	}
	return "object"
}

// Documents as they occur are valid under the schemas.
func TestDocumentsFollowTheirSchemas(t *testing.T) {
	e := newEngine(t, Config{}, []App{{Name: "wiki", Access: Access{
		{ID: "front", Paths: []string{"/a/", "/b"}, Methods: []string{"GET"}, Public: true},
		{Groups: []string{"staff"}, Emails: []string{"ada@corp.example"}, Domains: []string{"corp.example"}, MFA: true,
			Hours: &Hours{Days: []string{"mon"}, From: "08:30", To: "18:00"}},
	}}}, nil)
	in := person("wiki", "staff")
	valid(t, schema.Input(), in.AppendJSON(nil))
	valid(t, schema.Data(), e.Bundle().Data())
	valid(t, schema.Decision(), e.Decide(t.Context(), in).JSON)
}

func valid(t *testing.T, doc any, instance []byte) {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(instance))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%s: %v", instance, err)
	}
}
