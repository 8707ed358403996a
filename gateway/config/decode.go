package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder walks a YAML tree and a Go type side by side and gathers every problem on the way.
type decoder struct {
	file     string
	refs     *references
	nodes    map[string]*yaml.Node // by path, for errors of Check
	problems Errors
}

// checker is a value that can tell whether its parts make sense together.
type checker interface{ Check() error }

// document decodes the first document and refuses a second. A file without any content is an empty mapping.
func (d *decoder) document(documents []*yaml.Node, v reflect.Value) {
	if len(documents) > 1 {
		d.report(documents[1], "", "a second document begins here: the configuration is one document")
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}
	if len(documents) > 0 && !empty(documents[0]) {
		root = documents[0].Content[0]
	}
	d.value(root, v, "", rules{})
}

// empty tells a document that consists of comments only.
func empty(document *yaml.Node) bool {
	n := document.Content[0]
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Value == ""
}

// value decodes a node into v, which holds the zero value or the default.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, r rules) {
	d.nodes[path] = n
	if !d.plain(n, path) {
		return
	}
	before := len(d.problems)
	d.kind(n, v, path, r)
	if len(d.problems) == before {
		d.check(v, path)
	}
}

// plain refuses what makes two places of a file depend on each other, or a text mean something else.
func (d *decoder) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.report(n, path, "aliases are not supported: write the value out")
	case n.Anchor != "":
		d.report(n, path, fmt.Sprintf("anchors are not supported: remove &%s", n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.report(n, path, fmt.Sprintf("tags are not supported: remove %s", n.Tag))
	default:
		return true
	}
	return false
}

func (d *decoder) kind(n *yaml.Node, v reflect.Value, path string, r rules) {
	switch {
	case isScalar(v.Type()):
		d.scalar(n, v, path, r)
	case v.Kind() == reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		d.kind(n, fresh.Elem(), path, r)
		v.Set(fresh)
	case v.Kind() == reflect.Struct:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, path, r)
	case v.Kind() == reflect.Map:
		d.table(n, v, path, r)
	default:
		panic("BUG: a configuration cannot hold a " + v.Type().String())
	}
}

// isScalar tells the types that are written as one scalar.
func isScalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

// mapping decodes a struct: its defaults first, then the keys that are present.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	if n.Kind == yaml.ScalarNode && d.short(n, v, path, fields) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, path, "expected a mapping with keys such as "+strings.Join(names(fields)[:min(3, len(fields))], ", "))
		return
	}
	byName := make(map[string]field, len(fields))
	for _, f := range fields {
		if byName[f.name].name != "" {
			panic("BUG: " + v.Type().String() + " has two keys " + f.name)
		}
		byName[f.name] = f
	}
	seen := d.keys(n, path, func(key, value *yaml.Node) {
		f, known := byName[key.Value]
		if !known {
			d.report(key, join(path, key.Value), "unknown key; "+suggestion(key.Value, names(fields)))
			return
		}
		target := v.FieldByIndex(f.index)
		d.fallback(target, f)
		d.value(value, target, join(path, f.name), f.rules)
		d.demand(value, target, join(path, f.name), f)
	})
	for _, f := range fields {
		if seen[f.name] == nil {
			d.absent(n, v.FieldByIndex(f.index), path, f)
		}
	}
}

// short decodes a mapping that is written as the one value that stands for it, if there is such a value.
func (d *decoder) short(n *yaml.Node, v reflect.Value, path string, fields []field) bool {
	i := slices.IndexFunc(fields, func(f field) bool { return f.short })
	if i < 0 {
		return false
	}
	for _, f := range fields {
		d.fallback(v.FieldByIndex(f.index), f)
	}
	target := v.FieldByIndex(fields[i].index)
	d.value(n, target, path, fields[i].rules)
	d.demand(n, target, path, fields[i])
	return true
}

// keys visits the entries of a mapping whose keys are texts and occur once.
func (d *decoder) keys(n *yaml.Node, path string, visit func(key, value *yaml.Node)) (seen map[string]*yaml.Node) {
	seen = map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch first := seen[key.Value]; {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			d.report(key, path, "merge keys are not supported: write the keys out")
		case !d.plain(key, path):
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str":
			d.report(key, path, "expected a text as key; a number, a date or a boolean is written in quotes")
		case first != nil:
			d.report(key, join(path, key.Value), fmt.Sprintf("the key is there twice: first in line %d", first.Line))
		default:
			seen[key.Value] = key
			visit(key, value)
		}
	}
	return seen
}

// demand refuses a required value that is there and empty.
func (d *decoder) demand(n *yaml.Node, v reflect.Value, path string, f field) {
	if f.required && v.IsZero() && !d.reported(path) {
		d.report(n, path, "must not be empty")
	}
}

// reported tells whether the value at path already has a problem.
func (d *decoder) reported(path string) bool {
	for _, p := range d.problems {
		if p.Path == path {
			return true
		}
	}
	return false
}

// absent fills in what the file leaves out of the mapping n.
func (d *decoder) absent(n *yaml.Node, v reflect.Value, path string, f field) {
	path = join(path, f.name)
	if f.required {
		d.report(n, path, "the key is required")
		return
	}
	d.fallback(v, f)
	if v.Kind() == reflect.Struct && !isScalar(v.Type()) {
		d.value(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}, v, path, f.rules)
	}
}

// fallback sets the default of a field. It was written by us and must fit.
func (d *decoder) fallback(v reflect.Value, f field) {
	if f.fallback == "" {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	texts := []string{f.fallback}
	if v.Kind() == reflect.Slice && !isScalar(v.Type()) {
		texts = strings.Split(f.fallback, ",")
		v.Set(reflect.MakeSlice(v.Type(), len(texts), len(texts)))
	}
	for i, text := range texts {
		target := v
		if v.Kind() == reflect.Slice && !isScalar(v.Type()) {
			target = v.Index(i)
		}
		if err := setText(target, text); err != nil {
			panic("BUG: default of " + f.doc + ": " + err.Error())
		}
		d.locate(target, f.rules)
	}
}

// list decodes a sequence, or the one element that may stand for it.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, r rules) {
	if r.single && n.Kind != yaml.SequenceNode {
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.value(n, v.Index(0), path, r.element())
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.report(n, path, "expected a list: [first, second]")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), path+"["+strconv.Itoa(i)+"]", r.element())
	}
}

// table decodes a mapping whose keys the operator chooses.
func (d *decoder) table(n *yaml.Node, v reflect.Value, path string, r rules) {
	if n.Kind != yaml.MappingNode {
		d.report(n, path, "expected a mapping: {name: value}")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.keys(n, path, func(key, value *yaml.Node) {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(value, element, join(path, key.Value), r.element())
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), element)
	})
}

// check asks a complete value whether it makes sense.
func (d *decoder) check(v reflect.Value, path string) {
	if v.Kind() != reflect.Pointer {
		v = v.Addr()
	}
	c, ok := v.Interface().(checker)
	if !ok {
		return
	}
	err := c.Check()
	if err == nil {
		return
	}
	for _, e := range flatten(err) {
		where := join(path, fieldOf(e))
		d.report(d.nearest(where), where, e.Error())
	}
}

// nearest returns the node at path, or the closest one above it that the file has.
func (d *decoder) nearest(path string) *yaml.Node {
	for {
		if n := d.nodes[path]; n != nil {
			return n
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

func (d *decoder) report(n *yaml.Node, path, text string) {
	d.problems = append(d.problems, Problem{File: d.file, Line: max(n.Line, 1), Column: max(n.Column, 1), Path: path, Text: text})
}

// readable is a key or a path that needs no quotes.
var readable = regexp.MustCompile(`^[A-Za-z_][\w.\[\]-]*$`)

// join appends a key to a path: as it is where it reads as a name, in quotes otherwise.
func join(path, key string) string {
	switch {
	case key == "":
		return path
	case strings.HasPrefix(key, "["):
		return path + key
	case !readable.MatchString(key):
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}
