package config

import (
	_ "embed"
	"encoding/json"
	"sync"
)

// The comments of the configuration's types are its manual. They are gone from a compiled program, so a test extracts
// them from the source, and fails when this copy is not current.
//
//go:generate go test -run TestFieldDocsAreCurrent -update .
//go:embed fielddocs.json
var fieldDocs []byte

// comments are the comments of types (by package path and name) and of their fields (and the field's name).
var comments = sync.OnceValue(func() map[string]string {
	var all map[string]string
	if err := json.Unmarshal(fieldDocs, &all); err != nil {
		panic("BUG: fielddocs.json: " + err.Error())
	}
	return all
})

// documentation returns the comment of a type or field, or nothing.
func documentation(name string) string { return comments()[name] }
