package recheck

import (
	"bytes"
	"encoding/json"
	"slices"

	"sallyport/authn"
)

// Bounds of what is recorded of a change. Names are the provider's.
const (
	maxNames = 20
	maxName  = 128 // bytes
)

// Change is what a provider changed about a person, as records say it.
type Change struct {
	Added        []string `json:"added,omitempty"` // groups; the first maxNames
	AddedCount   int      `json:"added_count,omitzero"`
	Removed      []string `json:"removed,omitempty"`
	RemovedCount int      `json:"removed_count,omitzero"`
	Changed      []string `json:"changed,omitempty"` // names of other fields
}

func (c Change) empty() bool { return c.AddedCount+c.RemovedCount+len(c.Changed) == 0 }

// difference compares identities as they are stored. Groups are sorted and unique: see authn.New.
func difference(before, after *authn.Identity) Change {
	var c Change
	added, removed := without(after.Groups, before.Groups), without(before.Groups, after.Groups)
	c.Added, c.AddedCount = bounded(added), len(added)
	c.Removed, c.RemovedCount = bounded(removed), len(removed)
	c.Changed = changedFields(before, after)
	return c
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		_, found := slices.BinarySearch(some, name)
		return found
	})
}

func bounded(names []string) []string {
	var kept []string
	for _, name := range names[:min(len(names), maxNames)] {
		kept = append(kept, string(bytes.ToValidUTF8([]byte(name[:min(len(name), maxName)]), nil)))
	}
	return kept
}

// changedFields are the JSON names of the fields that differ, but for the groups themselves.
func changedFields(before, after *authn.Identity) []string {
	was, is := fields(before), fields(after)
	var names []string
	for name, value := range is {
		if !bytes.Equal(was[name], value) {
			names = append(names, name)
		}
	}
	for name := range was {
		if _, kept := is[name]; !kept {
			names = append(names, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "groups" })
	slices.Sort(names)
	return names
}

// fields are an identity's fields by their JSON names. Maps are written in order of their keys, so that equal values are
// equal bytes.
func fields(id *authn.Identity) map[string]json.RawMessage {
	text, err := json.Marshal(id)
	if err != nil {
		panic("BUG: an identity that is no JSON: " + err.Error())
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		panic("BUG: an identity that is no object: " + err.Error())
	}
	return all
}
