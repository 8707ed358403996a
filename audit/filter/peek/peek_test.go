package peek

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// value is any JSON value, nested a little.
func value(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 4+2*min(depth, 1)).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.Int64().Draw(t, "int")
	case 3, 4:
		return rapid.String().Draw(t, "text")
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			list = append(list, value(t, depth-1))
		}
		return list
	}
	return object(t, depth-1)
}

func object(t *rapid.T, depth int) map[string]any {
	made := map[string]any{}
	for range rapid.IntRange(0, 5).Draw(t, "members") {
		made[rapid.StringN(0, 6, -1).Draw(t, "name")] = value(t, depth)
	}
	return made
}

// spelled is JSON in one of the spellings there are.
func spelled(t *rapid.T, v any) string {
	text, err := json.Marshal(v)
	if rapid.Bool().Draw(t, "indent") {
		text, err = json.MarshalIndent(v, "", "\t")
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// decoded is what the members say, read by encoding/json one by one.
func decoded(t *rapid.T, members map[string]string) map[string]any {
	made := map[string]any{}
	for name, text := range members {
		var v any
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&v); err != nil {
			t.Fatalf("%s: %q: %v", name, text, err)
		}
		made[Text(`"`+name+`"`)] = v
	}
	return made
}

func TestMembersAreThoseOfEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := spelled(t, object(t, 3))
		var want map[string]any
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&want); err != nil {
			t.Fatal(err)
		}
		found, parsed := map[string]string{}, map[string]string{}
		whole := EachMember(text, func(name, value string) bool { found[name] = value; return true })
		p := Parse(text)
		for p.Enter(); p.Next(); {
			name := p.Name
			parsed[name] = p.Value()
		}
		if !whole || !p.Done() || !Whole(text) || !maps.Equal(found, parsed) || !maps.Equal(found, maps.Collect(Members(text))) {
			t.Fatalf("%s: whole %v, %v, %v\n%v\n%v", text, whole, p.Done(), Whole(text), found, parsed)
		}
		one, err := json.Marshal(decoded(t, found))
		two, err2 := json.Marshal(want)
		if err != nil || err2 != nil || string(one) != string(two) {
			t.Fatalf("%s became\n%s", text, one)
		}
	})
}

func TestElementsAreThoseOfEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOf(rapid.String()).Draw(t, "texts")
		if got := Texts(spelled(t, texts)); !slices.Equal(got, texts) && len(texts) > 0 {
			t.Fatalf("%q became %q", texts, got)
		}
	})
	for text, want := range map[string]bool{`[]`: true, ` [ ]`: true, `[1,2]`: true, `[1,]`: false, `[1 2]`: false, `[`: false, `{}`: false, `[[],{}]`: true, `[1]x`: false} {
		if got := EachElement(text, func(string) bool { return true }); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestWhatIsNotAnObjectHasNoMembers(t *testing.T) {
	for _, text := range []string{"", "{", `"x"`, "[]", "null", `{"a"}`, `{"a":}`, `{"a":1`, `{"a":1,}`, `{"a":1 "b":2}`, `{a:1}`, `{"a":[}`, `{"a":"x}`, `{"a":1}x`, strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)} {
		p := Parse(text)
		for p.Enter(); p.Next(); {
			p.Value()
		}
		if p.Done() || EachMember(text, func(string, string) bool { return true }) {
			t.Errorf("%.20s counts as a whole object", text)
		}
	}
	if At(`{"a":{"b":"c"}}`, "a", "b") != `"c"` || At(`{"a":1}`, "a", "b") != "" || Int("x") != 0 || Uint("-1") != 0 || Text("1") != "" || Shown("") != "" {
		t.Error("a value that is not there")
	}
}

func TestShownTextIsPrintable(t *testing.T) {
	for text, want := range map[string]string{`"a\"b\\c\/d"`: `a"b\c/d`, `"\u202e\u0041\n\ud83d\ude00"`: `\u202eA\u000a😀`, `"\ud83d"`: `\ufffd`, `"\u12"`: `\ufffd12`, `"plain"`: "plain"} {
		if got := Shown(text); got != want {
			t.Errorf("%s shows as %q, want %q", text, got, want)
		}
	}
}

func FuzzNothingPanics(f *testing.F) {
	for _, seed := range []string{`{"a":"b\u00e9\\","c":[1,{"d":null}]}`, `{"a":"`, `[[[`, `"\u`, `{"":{}}`, "{\"\x00\":\"\xff\"}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, value := range Members(text) {
			Text(value)
			Shown(value)
			Int(value)
			At(value, name, name)
			for element := range Elements(value) {
				Texts(element)
			}
		}
		if json.Valid([]byte(text)) && strings.HasPrefix(text, "{") && strings.Count(text, "{")+strings.Count(text, "[") < MaxDepth {
			if !EachMember(strings.TrimRight(text, " \t\r\n"), func(string, string) bool { return true }) {
				t.Errorf("%q is an object", text)
			}
		}
		AppendString(nil, text)
	})
}
