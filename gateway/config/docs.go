package config

import (
	_ "embed"
	"encoding/json"
)

// The comments of the configuration's types are its manual. They are gone from a compiled program, so a test extracts
// them from the source, and fails when this copy is not current.
//
//go:generate go test -run TestFieldDocsAreCurrent -update .
//go:embed fielddocs.json
var fieldDocs []byte

// documentation returns the comment of a type (package path and name) or of a field (and the field's name).
func documentation(name string) string {
	var all map[string]string
	if err := json.Unmarshal(fieldDocs, &all); err != nil {
		panic("BUG: fielddocs.json: " + err.Error())
	}
	return all[name]
}
