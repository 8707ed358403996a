// Package document reads the YAML files that reviewers of a policy write: directories and tables. Whatever is wrong is
// told at once, each with file, line and column: unknown keys with the nearest known one, keys that are there twice,
// values of another kind, aliases, a second document.
package document

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport/policy"
)

// Position is where a value stands. A struct that has a field of this type learns its own.
type Position struct {
	File         string
	Line, Column int // from 1
}

// Problem says what is wrong there.
func (p Position) Problem(format string, args ...any) policy.Problem {
	return policy.Problem{File: p.File, Line: p.Line, Column: p.Column, Text: fmt.Sprintf(format, args...)}
}

// Read decodes the one document of text into a pointer to a struct whose fields have yaml tags. One value stands for a
// list of one, and text for a struct that reads text. Errors are policy.Problems.
func Read(name string, text []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, second yaml.Node
	err := decoder.Decode(&root)
	if errors.Is(err, io.EOF) {
		return nil // an empty file says nothing
	}
	if err != nil {
		return policy.Problems{syntaxProblem(name, err)}
	}
	r := &reader{file: name}
	r.read(root.Content[0], reflect.ValueOf(into).Elem(), "")
	if err := decoder.Decode(&second); err == nil {
		r.problemAt(&second, "one document is enough")
	} else if !errors.Is(err, io.EOF) {
		r.problems = append(r.problems, syntaxProblem(name, err))
	}
	if r.problems != nil {
		return r.problems
	}
	return nil
}

// parserMessage is the form of all that the parser says.
var parserMessage = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)

// syntaxProblem says where the text stops being YAML: in or below the line that the parser names.
func syntaxProblem(name string, err error) policy.Problem {
	at, text := Position{File: name, Line: 1, Column: 1}, err.Error()
	if m := parserMessage.FindStringSubmatch(text); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil {
			at.Line = max(1, line)
		}
		text = m[2]
	}
	return at.Problem("not valid YAML: %s", text)
}

type reader struct {
	file     string
	problems policy.Problems
}

func (r *reader) problemAt(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, r.position(n).Problem(format, args...))
}

func (r *reader) position(n *yaml.Node) Position {
	return Position{File: r.file, Line: max(1, n.Line), Column: max(1, n.Column)}
}

// read decodes n into v, which at names.
func (r *reader) read(n *yaml.Node, v reflect.Value, at string) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.problemAt(n, "%swrite it out: anchors and aliases are not read", prefix(at))
	case n.Tag == "!!null":
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.read(n, v.Elem(), at)
	case n.Kind == yaml.ScalarNode && v.Addr().Type().Implements(readsText):
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			r.problemAt(n, "%s%s", prefix(at), err)
		}
		r.place(n, v)
	case n.Kind == yaml.ScalarNode && v.Addr().Type().Implements(readsJSON):
		if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON([]byte(n.Value)); err != nil {
			r.problemAt(n, "%s%s", prefix(at), err)
		}
	case v.Kind() == reflect.Struct:
		r.readStruct(n, v, at)
	case v.Kind() == reflect.Slice:
		r.readList(n, v, at)
	case v.Kind() == reflect.Map && n.Kind == yaml.MappingNode:
		r.readMap(n, v, at)
	default:
		if err := n.Decode(v.Addr().Interface()); err != nil {
			r.problemAt(n, "%swant %s", prefix(at), kindOf(v.Type()))
		}
	}
}

var (
	readsText = reflect.TypeFor[encoding.TextUnmarshaler]()
	readsJSON = reflect.TypeFor[json.Unmarshaler]()
)

// place tells a struct where it stands.
func (r *reader) place(n *yaml.Node, v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		if v.Type().Field(i).Type == reflect.TypeFor[Position]() {
			v.Field(i).Set(reflect.ValueOf(r.position(n)))
		}
	}
}

func (r *reader) readStruct(n *yaml.Node, v reflect.Value, at string) {
	r.place(n, v)
	if n.Kind != yaml.MappingNode {
		r.problemAt(n, "%swant keys and values", prefix(at))
		return
	}
	fields := fieldsOf(v)
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field, known := fields[key.Value]
		switch {
		case !known:
			r.problemAt(key, "%sunknown key%s", prefix(join(at, key.Value)), nearest(key.Value, fields))
		case seen[key.Value] > 0:
			r.problemAt(key, "%sthe key is there twice: first in line %d", prefix(join(at, key.Value)), seen[key.Value])
		default:
			seen[key.Value] = key.Line
			r.read(value, field, join(at, key.Value))
		}
	}
}

// fieldsOf are the fields of a struct by their keys, those of structs that it takes in among them.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		key, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case option == "inline":
			maps.Copy(fields, fieldsOf(v.Field(i)))
		case key == "":
			key, _, _ = strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		}
		if key != "" && key != "-" {
			fields[key] = v.Field(i)
		}
	}
	return fields
}

func (r *reader) readList(n *yaml.Node, v reflect.Value, at string) {
	items := n.Content
	if n.Kind != yaml.SequenceNode {
		items = []*yaml.Node{n}
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		r.read(item, list.Index(i), fmt.Sprintf("%s[%d]", at, i))
	}
	v.Set(list)
}

func (r *reader) readMap(n *yaml.Node, v reflect.Value, at string) {
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], reflect.New(v.Type().Elem()).Elem()
		if v.MapIndex(reflect.ValueOf(key.Value)).IsValid() {
			r.problemAt(key, "%sthe key is there twice", prefix(join(at, key.Value)))
		}
		r.read(n.Content[i+1], value, join(at, key.Value))
		v.SetMapIndex(reflect.ValueOf(key.Value), value)
	}
}

func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Map:
		return "keys and values"
	}
	return "text"
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func prefix(at string) string {
	if at == "" {
		return ""
	}
	return at + ": "
}

// nearest advises a known key that begins alike.
func nearest(key string, fields map[string]reflect.Value) string {
	best, distance := "", 3
	for name := range fields {
		if d := edits(key, name); d < distance || d == distance && name < best {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// edits counts the letters to insert, delete or replace that make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := before
			if a[i] != b[j] {
				replaced++
			}
			before = row[j+1]
			row[j+1] = min(replaced, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
