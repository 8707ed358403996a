package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
)

// decodeInput is what ParseInput is held against: encoding/json, and AppendJSON of what that reads.
func decodeInput(data []byte) (*Input, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	d.UseNumber()
	in := new(Input)
	if err := d.Decode(in); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the input")
	}
	if !bytes.Equal(in.AppendJSON(nil), data) {
		return nil, errNotCanonical
	}
	return in, nil
}

// checkParse fails unless ParseInput says what decodeInput says, and reports whether data is an input.
func checkParse(t *testing.T, data []byte) bool {
	t.Helper()
	text := string(data)
	got, err := ParseInput(data)
	want, wantErr := decodeInput(data)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("got error %v, want %v for %q", err, wantErr, data)
	}
	if string(data) != text {
		t.Fatalf("%q was changed to %q", text, data)
	}
	if err != nil {
		return false
	}
	clear(data) // the input must not depend on the caller's bytes
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is read differently: %s", text, cmp.Diff(want, got, cmp.AllowUnexported(Age{}), cmpopts.IgnoreUnexported(Subject{})))
	}
	if again := got.AppendJSON(nil); string(again) != text {
		t.Fatalf("two forms: %q and %q", text, again)
	}
	return true
}

func TestParseInputReadsWhatWasWritten(t *testing.T) {
	r := random(t)
	for range rounds(2000) {
		if doc := someInput(r).AppendJSON(nil); !checkParse(t, doc) {
			t.Fatalf("refused: %q", doc)
		}
	}
}

// someInput has every optional part now and then, and strings of all kinds.
func someInput(r *rand.Rand) *Input {
	in := pick(r, randomInput, func(r *rand.Rand, _ ...string) *Input { return wildInput(r) })(r, "wiki")
	s, c := &in.Subject, &in.Context
	if r.IntN(2) == 0 {
		s.Device = &Device{
			ID: pick(r, "", wild(r)), Platform: pick(r, "", "linux"), Version: pick(r, "", wild(r)), Managed: pick(r, nil, new(true), new(false)),
			Compliant: pick(r, nil, new(true)), Encrypted: pick(r, nil, new(false)), Source: pick(r, "", "mdm"), AgeS: pick(r, Age{}, AgeOf(0), AgeOf(1e15)),
		}
	}
	if r.IntN(2) == 0 {
		s.Cert = &Cert{Fingerprint: "f", Subject: wild(r), DNSNames: some(r, "a", "b"), Emails: []string{wild(r)}, URIs: some(r, "urn:a")}
		s.Grants = []Grant{{ID: wild(r), App: "a", Name: "n"}, {ID: "g", Expires: "2030-01-01T00:00:00Z"}}
		c.Shield = &Shield{Score: r.Int() - r.Int(), Rules: []int64{r.Int64(), -r.Int64(), 0}, Body: wild(r), Timeout: true}
		c.TimeNS = r.Int64() - r.Int64()
	}
	if r.IntN(2) == 0 {
		s.Claims = map[string]any{
			"": nil, "a": []any{}, "b": map[string]any{}, wild(r): map[string]any{"x": true, wild(r): []any{map[string]any{"deep": wild(r)}}},
			"n": json.Number(pick(r, "0", "-0", "1e400", "-1.50E+7", "123456789012345678901234567890")),
		}
	}
	for range r.IntN(3) * 50 {
		s.Groups = append(s.Groups, pick(r, "staff", wild(r)))
	}
	return in
}

// TestParseInputAgreesOnMutants changes texts at random places: what is no input any more is refused, what still is one is
// read as such.
func TestParseInputAgreesOnMutants(t *testing.T) {
	r := random(t)
	kept := 0
	for range rounds(5000) {
		text := someInput(r).AppendJSON(nil)
		for range 1 + r.IntN(2) {
			text = mutate(r, text)
		}
		if checkParse(t, text) {
			kept++
		}
	}
	t.Logf("%d mutants are inputs", kept)
}

// mutate is text after one change; the bytes of text stay as they are.
func mutate(r *rand.Rand, text []byte) []byte {
	if len(text) == 0 {
		return text
	}
	i, j := r.IntN(len(text)), r.IntN(len(text))
	i, j = min(i, j), max(i, j)
	token := pick(r, " ", "\n", ",", ":", `"`, `\`, "{", "}", "[", "]", "0", "-", "1.0", "e1", "null", "true", "false", `""`, "{}", "[]", "<", "\x00",
		"\x7f", "\xff", "\xed\xa0\x80", "\ufffd", "\u202e", "é", `\u0041`, `\u003c`, `\u003C`, `\/`, `\"`, `\\`, `\n`, `\u000a`, `\b`, `\ud83d\ude00`,
		`\udb40\udc01`, `\ud800`, `\udc00`, `\ufffd`, `\u`, `\u00`, `"id":"",`, `"age_s":60,`, `"x":1,`, `99999999999999999999`, `-0`, `007`)
	switch r.IntN(5) {
	case 0: // without a part
		return slices.Concat(text[:i], text[min(j, i+1+r.IntN(12)):])
	case 1: // a part twice
		return slices.Concat(text[:j], text[i:j], text[j:])
	case 2: // something in between
		return slices.Insert(slices.Clone(text), i, []byte(token)...)
	case 3: // another byte
		text = slices.Clone(text)
		text[i] = pick(r, byte(r.Uint32()), token[0])
		return text
	}
	return swapFields(r, text)
}

// swapFields exchanges two neighbours of a list or document, as far as commas tell where they are.
func swapFields(r *rand.Rand, text []byte) []byte {
	parts := bytes.Split(text, []byte(","))
	if len(parts) > 1 {
		i := r.IntN(len(parts) - 1)
		parts[i], parts[i+1] = parts[i+1], parts[i]
	}
	return bytes.Join(parts, []byte(","))
}

func TestParseInputRefusesCutTexts(t *testing.T) {
	in := person("wiki", "staff", "a\nb")
	in.Subject.Claims = map[string]any{"a": []any{json.Number("1"), nil, "<🚪\U000e0001"}}
	text := in.AppendJSON(nil)
	for i := range text {
		if _, err := ParseInput(text[:i]); err == nil {
			t.Errorf("accepted: %s", text[:i])
		}
	}
}

func TestParseInputRefusesOtherForms(t *testing.T) {
	in := person("wiki", "staff")
	in.Subject.Claims = map[string]any{"a": json.Number("1"), "b": []any{}}
	in.Subject.Device = &Device{ID: "d", Managed: new(true)}
	in.Context.Request.ContentLength = new(int64(7))
	doc := string(in.AppendJSON(nil))
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(doc, old) {
			t.Fatalf("no %s in %s", old, doc)
		}
		return strings.Replace(doc, old, new, 1)
	}
	for name, bad := range map[string]string{
		"empty":                  "",
		"null":                   "null",
		"not an object":          "[]",
		"unknown key":            change(`"type":`, `"allow":true,"type":`),
		"top-level key":          change(`{"subject"`, `{"admin":true,"subject"`),
		"last key":               doc[:len(doc)-1] + `,"admin":true}`,
		"duplicate key":          change(`"groups":["staff"]`, `"groups":["staff"],"groups":["admins"]`),
		"duplicate document":     change(`"action":{`, `"subject":{},"action":{`),
		"other case":             change(`"groups"`, `"Groups"`),
		"escaped key":            change(`"groups"`, `"\u0067roups"`),
		"space":                  change(`:`, `: `),
		"space before":           " " + doc,
		"byte order mark":        "\ufeff" + doc,
		"other order":            change(`"email_verified":true,"groups":["staff"]`, `"groups":["staff"],"email_verified":true`),
		"missing key":            change(`"groups":["staff"],`, ``),
		"missing document":       change(`"client":{"ip":"192.0.2.7"},`, ``),
		"missing comma":          change(`,"groups"`, `"groups"`),
		"two commas":             change(`,"groups"`, `,,"groups"`),
		"comma at the start":     change(`{"type"`, `{,"type"`),
		"comma at the end":       change(`["staff"]`, `["staff",]`),
		"other type":             change(`"groups":["staff"]`, `"groups":"staff"`),
		"other element":          change(`["staff"]`, `["staff",1]`),
		"null list":              change(`"groups":["staff"]`, `"groups":null`),
		"null element":           change(`["staff"]`, `[null]`),
		"null string":            change(`"method":"GET"`, `"method":null`),
		"null claims":            change(`"claims":{"a":1,"b":[]}`, `"claims":null`),
		"null document":          change(`"grants":[]`, `"cert":null,"grants":[]`),
		"null age":               change(`"age_s":1800`, `"age_s":null`),
		"null fact":              change(`"managed":true`, `"managed":null`),
		"null length":            change(`"content_length":7`, `"content_length":null`),
		"number as truth":        change(`"managed":true`, `"managed":1`),
		"truth in capitals":      change(`"managed":true`, `"managed":True`),
		"empty optional":         change(`"id":"corp|ada"`, `"id":""`),
		"needless escape":        change(`"method":"GET"`, `"method":"\u0047ET"`),
		"escaped slash":          change(`"/a/b"`, `"\/a/b"`),
		"long escape":            change(`"staff"`, `"\u000a"`),
		"escape in capitals":     change(`"staff"`, `"\u003C"`),
		"lone surrogate":         change(`"staff"`, `"\ud800"`),
		"escaped emoji":          change(`"staff"`, `"\ud83d\ude00"`),
		"unknown escape":         change(`"staff"`, `"\x41"`),
		"cut escape":             change(`"staff"`, `"\u00"`),
		"signed escape":          change(`"staff"`, `"\u+00a"`),
		"fractional age":         change(`"age_s":1800`, `"age_s":1800.5`),
		"whole fraction":         change(`"age_s":1800`, `"age_s":1800.0`),
		"exponent":               change(`"age_s":1800`, `"age_s":18e2`),
		"age in seconds":         change(`"age_s":1800`, `"age_s":1801`),
		"negative age":           change(`"age_s":1800`, `"age_s":-60`),
		"leading zero":           change(`"hour":9`, `"hour":09`),
		"plus":                   change(`"hour":9`, `"hour":+9`),
		"negative zero":          change(`"hour":9`, `"hour":-0`),
		"too large":              change(`"content_length":7`, `"content_length":9223372036854775808`),
		"no digits":              change(`"hour":9`, `"hour":-`),
		"quoted number":          change(`"hour":9`, `"hour":"9"`),
		"claims in other order":  change(`{"a":1,"b":[]}`, `{"b":[],"a":1}`),
		"claim twice":            change(`{"a":1,"b":[]}`, `{"a":1,"a":1,"b":[]}`),
		"claims without comma":   change(`{"a":1,"b":[]}`, `{"a":1"b":[]}`),
		"claim without name":     change(`{"a":1,"b":[]}`, `{1:1,"b":[]}`),
		"claim with bad number":  change(`{"a":1,`, `{"a":01,`),
		"claim with two numbers": change(`{"a":1,`, `{"a":1-1,`),
		"claim with infinity":    change(`{"a":1,`, `{"a":Infinity,`),
		"claim without value":    change(`{"a":1,`, `{"a":,`),
		"space in claims":        change(`{"a":1,`, `{"a":1 ,`),
		"something after":        doc + "{}",
		"whitespace after":       doc + "\n",
		"brace after":            doc + "}",
		"NUL after":              doc + "\x00",
		"raw invalid UTF-8":      change(`"staff"`, "\"\xff\""),
		"raw surrogate":          change(`"staff"`, "\"\xed\xa0\x80\""),
		"cut UTF-8":              change(`"staff"`, "\"\xf0\x9f\x9a\""),
		"raw replacement":        change(`"staff"`, "\"\ufffd\""),
		"raw line end":           change(`"staff"`, "\"a\nb\""),
		"unescaped <":            change(`"staff"`, `"<"`),
		"unescaped U+202E":       change(`"staff"`, "\"\u202e\""),
	} {
		if in, err := ParseInput([]byte(bad)); err == nil {
			t.Errorf("%s: accepted as %s", name, in.AppendJSON(nil))
		}
		if _, err := decodeInput([]byte(bad)); err == nil {
			t.Errorf("%s: the reference accepts it", name)
		}
	}
	if !checkParse(t, []byte(doc)) {
		t.Errorf("refused: %s", doc)
	}
}

func TestParseInputSaysWhere(t *testing.T) {
	doc := person("wiki", "staff").AppendJSON(nil)
	at := bytes.Index(doc, []byte(`"GET"`))
	doc[at] = '7'
	_, err := ParseInput(doc)
	if want := "reading policy input: byte " + strconv.Itoa(at) + ": "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s…", err, want)
	}
}

// TestParseInputBoundsNesting at the depth where encoding/json stops, so that no text can exhaust the stack.
func TestParseInputBoundsNesting(t *testing.T) {
	nested := func(n int) []byte {
		in := person("wiki")
		in.Subject.Claims = map[string]any{"a": "deep"}
		return []byte(strings.Replace(string(in.AppendJSON(nil)), `"deep"`, strings.Repeat("[", n)+strings.Repeat("]", n), 1))
	}
	const around = 3 // the input, the subject, the claims
	if !checkParse(t, nested(maxNesting-around)) {
		t.Error("refused at the limit")
	}
	if checkParse(t, nested(maxNesting-around+1)) || checkParse(t, nested(1<<20)) {
		t.Error("accepted beyond the limit")
	}
}

func FuzzParseInput(f *testing.F) {
	r := random(f)
	for range 20 {
		f.Add(someInput(r).AppendJSON(nil))
		f.Add(mutate(r, someInput(r).AppendJSON(nil)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !checkParse(t, slices.Clone(data)) {
			return
		}
		in, err := ParseInput(data)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ast.ValueFromReader(bytes.NewReader(data))
		if err != nil || in.term().Value.Compare(want) != 0 {
			t.Fatalf("evaluated as %v, recorded as %q", in.term(), data)
		}
	})
}

// BenchmarkParseInput reads the inputs of somebody in 40 groups and of a stranger; decoded is encoding/json and the
// comparison with what AppendJSON writes.
func BenchmarkParseInput(b *testing.B) {
	for name, in := range map[string]*Input{"person": employee("app-05"), "stranger": stranger("app-05")} {
		text := in.AppendJSON(nil)
		for how, read := range map[string]func([]byte) (*Input, error){"parsed": ParseInput, "decoded": decodeInput} {
			b.Run(name+"/"+how, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := read(text); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
