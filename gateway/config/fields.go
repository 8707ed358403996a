package config

import (
	"reflect"
	"slices"
	"strings"
)

// rules are what the tags of a field ask of its value.
type rules struct {
	path   bool     // a file path: relative to the folder of the configuration file
	remote bool     // or an http or https address
	single bool     // a list that may be written as its one element
	number bool     // a text that may be a whole number, without quotes
	enum   []string // the only texts allowed
}

// element returns the rules that hold for each element of a list.
func (r rules) element() rules {
	r.single = false
	return r
}

// field is one key of a mapping, as a struct field's tags describe it:
//
//	yaml:"name"            the key; "-" leaves the field out; ",inline" lifts the fields of a struct to this level
//	default:"8h"           the value when the key is absent, as it would be written; lists separated by commas
//	enum:"a,b"             the only texts allowed
//	config:"required"      the key must be present and not empty
//	config:"path"          a file path, relative to the folder of the configuration file
//	config:"path,address"  the same, or an http or https address
//	config:"single"        a list that may be written as its one element
//	config:"number"        a text, or each of a list, that may be a whole number, without quotes
//	config:"short"         the field that may be written in place of the whole mapping; the others then have their defaults
type field struct {
	rules
	name     string
	fallback string // from the default tag
	required bool
	short    bool // stands for the whole mapping
	index    []int
	doc      string // key in the documentation: package path, type and field
	typ      reflect.Type
}

// fieldsOf lists the keys of a struct type in the order of its fields.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() && !f.Anonymous, name == "-":
		case option == "inline":
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				all = append(all, inner)
			}
		case name == "":
			panic("BUG: " + t.String() + "." + f.Name + " is part of a configuration and has no yaml tag")
		default:
			all = append(all, newField(t, f, name))
		}
	}
	return all
}

func newField(t reflect.Type, f reflect.StructField, name string) field {
	options := strings.Split(f.Tag.Get("config"), ",")
	made := field{
		name:     name,
		fallback: f.Tag.Get("default"),
		required: slices.Contains(options, "required"),
		index:    f.Index,
		doc:      t.PkgPath() + "." + t.Name() + "." + f.Name,
		typ:      f.Type,
	}
	made.short = slices.Contains(options, "short")
	made.path = slices.Contains(options, "path")
	made.remote = slices.Contains(options, "address")
	made.single = slices.Contains(options, "single")
	made.number = slices.Contains(options, "number")
	if enum := f.Tag.Get("enum"); enum != "" {
		made.enum = strings.Split(enum, ",")
	}
	return made
}

// names lists the keys, for suggestions.
func names(fields []field) []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.name
	}
	return all
}
