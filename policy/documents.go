package policy

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// documents is a topdown.BaseCache that has everything from the start: the policy's data, which never changes. The
// evaluator asks it before the store, whose way of naming places costs more than a whole rule.
type documents struct{ root ast.Value }

func documentsOf(ctx context.Context, store storage.Store, txn storage.Transaction) (*documents, error) {
	root, err := store.Read(ctx, txn, storage.Path{})
	if err != nil {
		return nil, err
	}
	value, ok := root.(ast.Value)
	if !ok {
		return nil, fmt.Errorf("the store holds %T", root)
	}
	return &documents{value}, nil
}

// Get is the document at a reference to data, or nil: then the store is asked. It follows names through objects only;
// what else a store takes for a path stays its own affair.
func (d *documents) Get(ref ast.Ref) ast.Value {
	if len(ref) < 2 {
		return nil // all of data: the evaluator hides a part of it
	}
	value := d.root
	for _, name := range ref[1:] {
		o, isObject := value.(ast.Object)
		if _, isName := name.Value.(ast.String); !isObject || !isName {
			return nil
		}
		term := o.Get(name)
		if term == nil {
			return nil
		}
		value = term.Value
	}
	return value
}

// Put keeps nothing: all is there.
func (d *documents) Put(ast.Ref, ast.Value) {}
