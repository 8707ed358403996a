package policy

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// What reviewers look at: the sources, data and compiled form of a policy, and how it comes to an answer. Nothing of it
// may be changed.

// Source is one file of a bundle.
type Source struct {
	Name    string // operator/… is the operator's, sallyport/… is shipped
	Content []byte
}

// Operators reports whether the file is the operator's.
func (s Source) Operators() bool { return strings.HasPrefix(s.Name, operatorPrefix) }

// Sources are the bundle's Rego files by name.
func (b *Bundle) Sources() []Source {
	list := make([]Source, len(b.contents.modules))
	for i, m := range b.contents.modules {
		list[i] = Source{m.name, m.content}
	}
	return list
}

// Data is data.sallyport.config, a JSON document.
func (b *Bundle) Data() []byte { return b.contents.data }

// Bundle is what the engine was compiled from.
func (e *Engine) Bundle() *Bundle { return e.bundle }

// Apps are the names of the apps that the policy knows, sorted.
func (e *Engine) Apps() []string { return slices.Sorted(maps.Keys(e.plans)) }

// Compiler is the compiled policy.
func (e *Engine) Compiler() *ast.Compiler { return e.compiler }

// Store holds the policy's data, with the transaction to read it in.
func (e *Engine) Store() (storage.Store, storage.Transaction) { return e.store, e.txn }

// Trace is Recompute of an input with tracers that hear of every step.
func (e *Engine) Trace(ctx context.Context, in *Input, tracers ...topdown.QueryTracer) *Verdict {
	return e.evaluate(ctx, in, maxDeadline, tracers...)
}
