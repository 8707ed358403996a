package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
)

// TestInputJSONIsEncodingJSONs compares our writer with encoding/json, which reads the same struct tags.
func TestInputJSONIsEncodingJSONs(t *testing.T) {
	r := random(t)
	for range rounds(2000) {
		in := randomInput(r, "wiki", "payroll")
		got := in.AppendJSON(nil)
		want, err := json.Marshal(withoutNils(in))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

// withoutNils is the input with empty lists and maps where encoding/json would write null.
func withoutNils(in *Input) *Input {
	c := *in
	fillNils(reflect.ValueOf(&c).Elem())
	return &c
}

func fillNils(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c := reflect.New(v.Type().Elem())
			c.Elem().Set(v.Elem())
			fillNils(c.Elem())
			v.Set(c)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				fillNils(field)
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	}
}

func TestInputRoundTrip(t *testing.T) {
	r := random(t)
	for range rounds(2000) {
		in := randomInput(r, "wiki")
		got, err := ParseInput(in.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%v: %s", err, in.AppendJSON(nil))
		}
		if diff := cmp.Diff(in, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(Age{}), cmpopts.IgnoreUnexported(Subject{})); diff != "" {
			t.Fatal(diff)
		}
	}
}

// TestInputIsWellFormedForAnyBytes: whatever the strings hold, the JSON can be read, is stable, and is what the
// evaluator sees.
func TestInputIsWellFormedForAnyBytes(t *testing.T) {
	r := random(t)
	for range rounds(2000) {
		in := wildInput(r)
		doc := in.AppendJSON(nil)
		parsed, err := ParseInput(doc)
		if err != nil {
			t.Fatalf("%v: %q", err, doc)
		}
		if again := parsed.AppendJSON(nil); !bytes.Equal(again, doc) {
			t.Fatalf("unstable: %q then %q", doc, again)
		}
		for _, c := range string(doc) {
			if c == utf8.RuneError || !unicode.IsPrint(c) {
				t.Fatalf("%q is not printable in %q", c, doc)
			}
		}
		embedded, err := json.Marshal(map[string]json.RawMessage{"input": doc})
		if err != nil || !bytes.Contains(embedded, doc) {
			t.Fatalf("not embeddable: %v %q", err, doc)
		}
	}
}

func TestInputTermIsItsJSON(t *testing.T) {
	r := random(t)
	for i := range rounds(2000) {
		in := randomInput(r, "wiki")
		if i%2 == 0 {
			in = wildInput(r)
		}
		want, err := ast.ValueFromReader(bytes.NewReader(in.AppendJSON(nil)))
		if err != nil {
			t.Fatal(err)
		}
		if got := in.term().Value; got.Compare(want) != 0 {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	}
}

// A record holds no character that does not show as itself, so an input with one would not be found there as it was
// decided on.
func TestInputIsSpeltAsInRecords(t *testing.T) {
	for path, want := range map[string]string{
		"/\u202egnp.exe": `"/\u202egnp.exe"`, "/\u200b": `"/\u200b"`, "/\x7f": `"/\u007f"`, "/\u0085": `"/\u0085"`, "/\xff": `"/\ufffd"`,
		"/\ufffd": `"/\ufffd"`, "/\U000e0001": `"/\udb40\udc01"`, "/ü漢🙂": `"/ü漢🙂"`, "/\u2028": `"/\u2028"`, "/\u00a0": `"/\u00a0"`,
	} {
		in := person("wiki", "staff")
		in.Resource.Path = path
		doc := in.AppendJSON(nil)
		if !strings.Contains(string(doc), `"path":`+want) {
			t.Errorf("path %q is not %s in %s", path, want, doc)
		}
		if _, err := ParseInput(doc); err != nil {
			t.Errorf("path %q: %v", path, err)
		}
	}
}

func TestAbsentIsNotEmpty(t *testing.T) {
	doc := string(stranger("wiki").AppendJSON(nil))
	for _, absent := range []string{`"id":"corp`, `"email":`, `"authn"`, `"session"`, `"device"`, `"cert"`, `"shield"`, `"country"`, `"content_length"`} {
		if strings.Contains(doc, absent) {
			t.Errorf("%s is there: %s", absent, doc)
		}
	}
	for _, present := range []string{`"groups":[]`, `"claims":{}`, `"grants":[]`, `"email_verified":false`, `"query":""`, `"upgrade":""`, `"origin":""`, `"labels":{}`} {
		if !strings.Contains(doc, present) {
			t.Errorf("%s is missing: %s", present, doc)
		}
	}
}

func TestAgesAreWholeMinutes(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		-time.Hour: 0, 0: 0, 59 * time.Second: 0, time.Minute: 60, 119 * time.Second: 60, 90 * time.Minute: 5400,
	} {
		if got, known := AgeOf(d).Seconds(); got != want || !known {
			t.Errorf("AgeOf(%v) = %d, %v, want %d", d, got, known, want)
		}
	}
	if _, known := (Age{}).Seconds(); known {
		t.Error("the zero age is known")
	}
}

func TestContextTellsTimeInItsZone(t *testing.T) {
	zone, err := (&Config{Timezone: "Asia/Kolkata"}).Zone()
	if err != nil {
		t.Fatal(err)
	}
	var c Context
	c.SetTime(time.Date(2026, 11, 22, 20, 15, 0, 123, time.UTC), zone)
	want := Context{TimeNS: 1795378500000000123, Time: "2026-11-23T01:45:00+05:30", Weekday: "mon", Hour: 1}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestActionName(t *testing.T) {
	for _, c := range []struct{ method, upgrade, want string }{
		{"GET", "", ActionRead}, {"HEAD", "", ActionRead}, {"OPTIONS", "", ActionRead}, {"POST", "", ActionWrite},
		{"PATCH", "", ActionWrite}, {"BREW", "", ActionWrite}, {"DELETE", "", ActionDelete}, {"GET", "websocket", ActionConnect},
	} {
		if got := ActionName(c.method, c.upgrade); got != c.want {
			t.Errorf("ActionName(%q, %q) = %q, want %q", c.method, c.upgrade, got, c.want)
		}
	}
}

func TestBoundGroups(t *testing.T) {
	many := make([]string, MaxGroups+1)
	for i := range many {
		many[i] = fmt.Sprintf("g%03d", i)
	}
	long := []string{strings.Repeat("a", 10<<10), strings.Repeat("b", 10<<10), strings.Repeat("c", 10<<10)}
	escaped := []string{strings.Repeat("\x01", 3<<10), strings.Repeat("\x02", 3<<10)}
	for _, c := range []struct {
		name   string
		groups []string
		want   int
	}{{"few", many[:MaxGroups], MaxGroups}, {"many", many, MaxGroups}, {"long", long, 2}, {"escaped", escaped, 1}} {
		in := person("wiki", c.groups...)
		if err := in.Bound(); err != nil {
			t.Fatal(err)
		}
		if got := len(in.Subject.Groups); got != c.want || in.Subject.GroupsIncomplete != (c.want < len(c.groups)) {
			t.Errorf("%s: %d groups, incomplete %v; want %d", c.name, got, in.Subject.GroupsIncomplete, c.want)
		}
	}
}

func TestBoundRefusesWhatCannotBeShortened(t *testing.T) {
	for field, set := range map[string]func(*Input){
		"resource.path":     func(in *Input) { in.Resource.Path = "/" + strings.Repeat("a", MaxPath) },
		"resource.query":    func(in *Input) { in.Resource.Query = strings.Repeat("a", MaxQuery) },
		"resource.segments": func(in *Input) { in.Resource.Segments = make([]string, 3<<10) },
		"subject.id":        func(in *Input) { in.Subject.ID = strings.Repeat("a", 1<<10) },
		"action.method":     func(in *Input) { in.Action.Method = strings.Repeat("A", 1<<10) },
		"input":             func(in *Input) { in.Subject.Authn.ACR = strings.Repeat("a", maxSmall) },
	} {
		in := person("wiki")
		set(in)
		tooLarge, ok := errors.AsType[*TooLargeError](in.Bound())
		if !ok || tooLarge.Field != field {
			t.Errorf("%s: got %v", field, tooLarge)
		}
	}
}

// TestBoundInputFitsItsRecord fills every field as far as it goes.
func TestBoundInputFitsItsRecord(t *testing.T) {
	full := func(n int) string { return strings.Repeat("a", n-2) }
	in := person("wiki")
	in.Resource.Path = "/" + full(MaxPath-1)
	in.Resource.Segments = []string{full(MaxPath - 1)}
	in.Resource.Query = full(MaxQuery)
	in.Context.Request.Headers = map[string]string{"a": full(MaxHeaders - 8), "b": full(MaxHeaders)}
	in.Context.Request.UserAgent, in.Context.Request.Origin = full(64<<10), full(64<<10)
	in.Context.Request.ContentType = full(64 << 10)
	in.Subject.Claims = map[string]any{"a": full(maxClaims - 8), "b": full(maxClaims)}
	in.Resource.Labels = map[string]string{"a": full(maxLabels - 16)}
	for i := range 1000 {
		in.Subject.Groups = append(in.Subject.Groups, fmt.Sprintf("%048d", i))
		in.Subject.Grants = append(in.Subject.Grants, Grant{ID: fmt.Sprint(i)})
	}
	in.Subject.Cert = &Cert{Subject: full(maxSmall / 2)}
	if err := in.Bound(); err != nil {
		t.Fatal(err)
	}
	if n := len(in.AppendJSON(nil)); n > MaxInput {
		t.Errorf("the input takes %d bytes, want at most %d", n, MaxInput)
	}
	const record, rest = 60 << 10, 1 << 10
	if MaxInput+MaxDecision+rest > record {
		t.Error("input and decision do not fit one record")
	}
	if _, kept := in.Subject.Claims["b"]; kept || len(in.Subject.Claims) != 1 {
		t.Error("claims were not dropped in order")
	}
}

func TestBoundLeavesTheCallersValuesAlone(t *testing.T) {
	groups := make([]string, MaxGroups+5)
	claims := map[string]any{"a": strings.Repeat("x", maxClaims), "b": 1}
	in := person("wiki", groups...)
	in.Subject.Claims = claims
	if err := in.Bound(); err != nil {
		t.Fatal(err)
	}
	if len(groups) != MaxGroups+5 || len(claims) != 2 {
		t.Error("changed")
	}
}

func TestSizeIsTheLengthOfTheJSONForm(t *testing.T) {
	r := random(t)
	for range rounds(2000) {
		if s := wild(r); size(s) != len(appendString(nil, s)) {
			t.Fatalf("size(%q) = %d, want %d", s, size(s), len(appendString(nil, s)))
		}
	}
}
