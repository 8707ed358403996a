package gateway

import (
	"encoding/json"
	"maps"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestMergePatchCarriesOnlyWhatChanged(t *testing.T) {
	for name, c := range map[string]struct{ before, after, want string }{
		"nothing":         {`{"a":1,"b":{"c":[1]}}`, `{"b":{"c":[1]},"a":1}`, `{}`},
		"a value":         {`{"a":1,"b":2}`, `{"a":1,"b":3}`, `{"b":3}`},
		"inside":          {`{"a":{"b":1,"c":2}}`, `{"a":{"b":1,"c":3}}`, `{"a":{"c":3}}`},
		"gone":            {`{"a":{"b":1,"c":2},"d":1}`, `{"a":{"b":1}}`, `{"a":{"c":null},"d":null}`},
		"new":             {`{}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		"a list is whole": {`{"a":[1,2]}`, `{"a":[1]}`, `{"a":[1]}`},
		"another kind":    {`{"a":{"b":1}}`, `{"a":"b"}`, `{"a":"b"}`},
		"long numbers":    {`{"time_ns":1795396396000000001}`, `{"time_ns":1795396396000000002}`, `{"time_ns":1795396396000000002}`},
	} {
		if got := string(mergePatch([]byte(c.before), []byte(c.after))); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// Whatever two inputs are, the first and the patch give the second (RFC 7396 §2).
func TestMergePatchLeadsFromOneInputToTheOther(t *testing.T) {
	object := objects(3)
	rapid.Check(t, func(t *rapid.T) {
		before, after := object.Draw(t, "before"), object.Draw(t, "after")
		patch := mergePatch(encoded(before), encoded(after))
		got := patched(parseObject(encoded(before)), parseObject(patch))
		if want := parseObject(encoded(after)); !reflect.DeepEqual(got, want) {
			t.Errorf("%v patched with %s is %v, want %v", before, patch, got, want)
		}
	})
}

// objects are JSON objects without nulls.
func objects(depth int) *rapid.Generator[map[string]any] {
	values := []*rapid.Generator[any]{rapid.Int().AsAny(), rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.SliceOf(rapid.Int()).AsAny()}
	if depth > 0 {
		values = append(values, objects(depth-1).AsAny())
	}
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.OneOf(values...), 0, 4)
}

func encoded(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// patched is MergePatch of RFC 7396 §2.
func patched(target, patch map[string]any) map[string]any {
	result := maps.Clone(target)
	if result == nil {
		result = map[string]any{}
	}
	for name, value := range patch {
		inner, isObject := value.(map[string]any)
		switch {
		case value == nil:
			delete(result, name)
		case isObject:
			was, _ := result[name].(map[string]any)
			result[name] = patched(was, inner)
		default:
			result[name] = value
		}
	}
	return result
}
