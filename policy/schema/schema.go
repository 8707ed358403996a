// Package schema holds the JSON Schemas of what a policy reads and answers: input, data.sallyport.config and the
// decision. They are for editors, for OPA's type checker and for other programs; the types of package policy say the
// same, and a test there compares the two.
package schema

import (
	_ "embed"
	"encoding/json"
	"iter"
)

//go:embed input.json
var input []byte

//go:embed data.json
var data []byte

//go:embed decision.json
var decision []byte

// Input is the schema of input, as decoded JSON. Each call returns a copy.
func Input() any { return decoded(input) }

// Data is the schema of data.sallyport.config.
func Data() any { return decoded(data) }

// Decision is the schema of data.sallyport.authz.decision.
func Decision() any { return decoded(decision) }

// All yields the name and text of each schema.
func All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		_ = yield("input", input) && yield("data", data) && yield("decision", decision)
	}
}

func decoded(text []byte) any {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		panic("BUG: embedded schema: " + err.Error())
	}
	return v
}

// Field is one place of a document, such as context.hour of the input.
type Field struct {
	Path     string
	Optional bool     // it, or something that it lies in, may be absent
	Enum     []string // the only values, if they are few
	Type     string   // of JSON Schema: string, integer, boolean, array, object
	Minimum  *float64
	Maximum  *float64
}

// InputFields are all places of the input, by path. Below lists and maps there are none.
func InputFields() map[string]Field {
	var root node
	if err := json.Unmarshal(input, &root); err != nil {
		panic("BUG: embedded schema: " + err.Error())
	}
	all := make(map[string]Field)
	root.gather("", false, all)
	return all
}

type node struct {
	Type       string          `json:"type"`
	Enum       []string        `json:"enum"`
	Required   []string        `json:"required"`
	Properties map[string]node `json:"properties"`
	Minimum    *float64        `json:"minimum"`
	Maximum    *float64        `json:"maximum"`
}

func (n *node) gather(path string, optional bool, into map[string]Field) {
	if path != "" {
		into[path] = Field{path, optional, n.Enum, n.Type, n.Minimum, n.Maximum}
		path += "."
	}
	required := make(map[string]bool, len(n.Required))
	for _, name := range n.Required {
		required[name] = true
	}
	for name, below := range n.Properties {
		below.gather(path+name, optional || !required[name], into)
	}
}
