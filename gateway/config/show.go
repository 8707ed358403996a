package config

import (
	"bytes"
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Show prints a configuration as YAML the way it is in effect: defaults filled in, paths absolute, references resolved.
// Secrets are of types that print as [redacted], here as everywhere.
func Show(config any) ([]byte, error) {
	n, err := node(reflect.ValueOf(config))
	if err != nil {
		return nil, fmt.Errorf("showing configuration: %w", err)
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(n); err != nil {
		return nil, fmt.Errorf("showing configuration: %w", err)
	}
	return out.Bytes(), encoder.Close()
}

func node(v reflect.Value) (*yaml.Node, error) {
	switch {
	case v.Kind() == reflect.Pointer:
		return node(v.Elem())
	case isScalar(v.Type()):
		return scalarNode(v)
	case v.Kind() == reflect.Struct:
		return structNode(v)
	case v.Kind() == reflect.Slice:
		return listNode(v)
	}
	return tableNode(v)
}

// structNode leaves out what is not there: a pointer to nothing, a choice that was not made, a network that is none.
func structNode(v reflect.Value) (*yaml.Node, error) {
	made := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		if value.IsZero() && (value.Kind() == reflect.Pointer || f.enum != nil || value.Type() == reflect.TypeFor[netip.Prefix]()) {
			continue
		}
		if err := appendEntry(made, f.name, value); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func tableNode(v reflect.Value) (*yaml.Node, error) {
	made := &yaml.Node{Kind: yaml.MappingNode}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		if err := appendEntry(made, key.String(), v.MapIndex(key)); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func appendEntry(mapping *yaml.Node, key string, v reflect.Value) error {
	name := new(yaml.Node)
	if err := name.Encode(key); err != nil {
		return err
	}
	value, err := node(v)
	if err != nil {
		return err
	}
	mapping.Content = append(mapping.Content, name, value)
	return nil
}

// listNode prints lists of scalars on one line.
func listNode(v reflect.Value) (*yaml.Node, error) {
	made := &yaml.Node{Kind: yaml.SequenceNode}
	if isScalar(v.Type().Elem()) {
		made.Style = yaml.FlowStyle
	}
	for i := range v.Len() {
		item, err := node(v.Index(i))
		if err != nil {
			return nil, err
		}
		made.Content = append(made.Content, item)
	}
	return made, nil
}

func scalarNode(v reflect.Value) (*yaml.Node, error) {
	made := new(yaml.Node)
	if !isText(v.Type()) {
		return made, made.Encode(v.Interface())
	}
	text, err := textOf(v)
	if err != nil {
		return nil, err
	}
	return made, made.Encode(strings.ReplaceAll(text, "${", "$${"))
}

// textOf returns what a value of a text type prints: secrets redact themselves in MarshalText or String.
func textOf(v reflect.Value) (string, error) {
	if v.Kind() == reflect.String && v.Len() == 0 {
		return "", nil // a secret that is not there needs no redaction
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value), nil
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		return string(text), err
	case fmt.Stringer:
		return value.String(), nil
	}
	if v.Kind() != reflect.String {
		return "", fmt.Errorf("BUG: %s does not print itself", v.Type())
	}
	return v.String(), nil
}
