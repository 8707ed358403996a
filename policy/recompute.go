package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// Recompute answers for the input of a record, always by evaluation. The machine that checks may be slower than the one
// that decided, so only ctx and the longest configurable deadline bound it; a verdict with reason timeout is the one
// kind that may come out differently.
func (e *Engine) Recompute(ctx context.Context, inputJSON []byte) *Verdict {
	in, err := ParseInput(inputJSON)
	if err != nil {
		return doubt(ReasonError, err)
	}
	return e.evaluate(ctx, in, maxDeadline)
}

// Rederive is Recompute for many records: inputs that agree in everything their app's policy can read share one evaluation,
// as they did when they were decided. With changed, a JSON Merge Patch (RFC 7396), the input is what that makes of
// inputJSON: a record of a decision that was taken again holds no more.
func (e *Engine) Rederive(ctx context.Context, inputJSON, changed []byte) *Verdict {
	in, err := ParseInput(inputJSON)
	if err == nil && changed != nil {
		in, err = patched(inputJSON, changed)
	}
	if err != nil {
		return doubt(ReasonError, err)
	}
	return e.answer(ctx, in, maxDeadline)
}

// patched is the input that a merge patch makes of another.
func patched(inputJSON, changed []byte) (*Input, error) {
	before, err := decodeObject(inputJSON)
	if err != nil {
		return nil, fmt.Errorf("reading policy input: %w", err)
	}
	patch, err := decodeObject(changed)
	if err != nil {
		return nil, fmt.Errorf("reading the change of a policy input: %w", err)
	}
	merged, err := json.Marshal(merge(before, patch))
	if err != nil {
		return nil, fmt.Errorf("changing policy input: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(merged))
	d.DisallowUnknownFields()
	d.UseNumber()
	in := new(Input)
	if err := d.Decode(in); err != nil {
		return nil, fmt.Errorf("reading changed policy input: %w", err)
	}
	return in, nil
}

func decodeObject(text []byte) (object map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // time_ns has more digits than a float64
	err = d.Decode(&object)
	return object, err
}

// merge is MergePatch of RFC 7396 §2 for objects.
func merge(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for name, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, name)
		case map[string]any:
			inner, _ := target[name].(map[string]any)
			target[name] = merge(inner, value)
		default:
			target[name] = value
		}
	}
	return target
}
