package corpus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"sallyport/policy"
)

// keep is an input's JSON with nothing but some fields, members in alphabetical order.
func keep(input []byte, fields []string) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(input))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("reading an input: %w", err)
	}
	kept := map[string]any{}
	for _, field := range fields {
		copyField(kept, all, strings.Split(field, "."))
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(kept); err != nil {
		return nil, fmt.Errorf("writing an input: %w", err)
	}
	return bytes.TrimSuffix(text.Bytes(), []byte{'\n'}), nil
}

func copyField(to, from map[string]any, path []string) {
	value, there := from[path[0]]
	if !there {
		return
	}
	if len(path) == 1 {
		to[path[0]] = value
		return
	}
	inner, isObject := value.(map[string]any)
	if !isObject {
		return
	}
	below, _ := to[path[0]].(map[string]any)
	if below == nil {
		below = map[string]any{}
		to[path[0]] = below
	}
	copyField(below, inner, path[1:])
}

// whole is the input of what was kept of it: fields that were not are empty.
func whole(kept []byte) (*policy.Input, error) {
	d := json.NewDecoder(bytes.NewReader(kept))
	d.UseNumber()
	d.DisallowUnknownFields()
	in := new(policy.Input)
	if err := d.Decode(in); err != nil {
		return nil, fmt.Errorf("reading an input: %w", err)
	}
	return in, nil
}
