package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func fullRecord() *Record {
	return &Record{
		V: Version, ID: "01a205dd-2b9c-7601-97ea-400ef6af70f0", Log: DecisionLog, Seq: 18446744073709551615,
		Boot: Boot{ID: "b", N: 7}, Type: TypeDecision, Code: "c", Time: time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC),
		Replica: "gw-1", RequestID: "req", Session: "ses", App: "wiki", Effect: Deny, Reason: "policy",
		Input: json.RawMessage(`{"resource":{"path":"/ä"}}`), Policy: Policy{Digest: "sha256:00", Revision: "r1"},
		Decision: json.RawMessage(`{"allow":false}`), Memo: true,
		Outcome: &Outcome{Of: "x", Status: 200, BytesIn: 1, BytesOut: 2, DurationNS: 3, Cache: "stale", Upstream: "http://10.0.0.5:8080",
			Attempts: 2, Error: "e"},
		Actor:  &Actor{Kind: "os", ID: "uid:0", Name: "root", Address: "::1"},
		Detail: json.RawMessage(`[1,2.5e-3,null,true,"\u202e"]`),
	}
}

func mustLine(t testing.TB, r *Record) []byte {
	t.Helper()
	line, err := r.line()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// The hand-written encoder writes what encoding/json would, field by field in the order of the type.
func TestEncodingAgreesWithTheType(t *testing.T) {
	for name, r := range map[string]*Record{
		"full":  fullRecord(),
		"empty": {V: Version, Type: TypeHeartbeat, Time: time.Unix(0, 0).UTC()},
	} {
		t.Run(name, func(t *testing.T) {
			line := mustLine(t, r)
			decoded, err := DecodeRecord(line)
			if err != nil {
				t.Fatalf("%v\n%s", err, line)
			}
			r.InputDigest = decoded.InputDigest
			if diff := cmp.Diff(r, decoded); diff != "" {
				t.Error(diff)
			}
			var want bytes.Buffer
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(r); err != nil {
				t.Fatal(err)
			}
			// Only the times are spelled differently: ours always have nine digits.
			was, is := r.Time.Format(time.RFC3339Nano), r.Time.Format(timeFormat)
			if got, want := string(line), strings.Replace(strings.TrimSuffix(want.String(), "\n"), was, is, 1); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestInputDigestIsOfTheBytesInTheRecord(t *testing.T) {
	for _, input := range []string{`{}`, `{"path":"/a b"}`, "{\n\t\"path\": \"/\u202e\xff\"\n}", `{"n":1e400}`} {
		r := &Record{Type: TypeDecision, Input: json.RawMessage(input)}
		line := mustLine(t, r)
		var stored struct {
			Input  json.RawMessage
			Digest string `json:"input_digest"`
		}
		if err := json.Unmarshal(line, &stored); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(stored.Input)
		if want := "sha256:" + hex.EncodeToString(sum[:]); stored.Digest != want {
			t.Errorf("input %q: digest %s, want %s", input, stored.Digest, want)
		}
	}
}

// hostile are strings that a client may have a hand in.
var hostile = []string{
	"line\nbreak", "carriage\r\nreturn", "\x1b[31mred\x1b[0m", `quote " and \ backslash`, "}{", "\x00", "\x7f", "\u0085",
	"\xff\xfe", "half a rune \xe2\x80", "\u202egnp.exe", "\u2028\u2029", "\ufeff", "zero\u200bwidth", "\U000e0001tag", "\ufffd",
	"<img onerror>", "=cmd()", "ünïcödé 漢字 🙂", "surrogate \xed\xa0\x80",
}

// INJ-08: whatever a client sends, a record is one well-formed line of text that shows what it is.
func TestHostileStringsStayInTheirLine(t *testing.T) {
	for _, s := range hostile {
		raw, err := json.Marshal(map[string]string{"path": s})
		if err != nil {
			t.Fatal(err)
		}
		unescaped := json.RawMessage(`{"path":"` + strings.Map(func(r rune) rune {
			if r < ' ' || r == '"' || r == '\\' {
				return -1
			}
			return r
		}, s) + `"}`)
		for _, input := range []json.RawMessage{raw, unescaped} {
			line := mustLine(t, &Record{
				V: Version, Type: TypeControl, Replica: s, RequestID: s, App: s, Reason: s, Input: input, Detail: input,
				Actor: &Actor{Kind: s, ID: s, Name: s}, Outcome: &Outcome{Of: s, Cache: s, Upstream: s, Error: s},
			})
			checkLine(t, line)
			if _, err := DecodeRecord(line); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
	}
}

// checkLine checks that a record's line is one valid JSON object of printable characters.
func checkLine(t testing.TB, line []byte) {
	t.Helper()
	if !json.Valid(line) || !utf8.Valid(line) {
		t.Errorf("not valid JSON in UTF-8: %q", line)
	}
	for _, r := range string(line) {
		if !unicode.IsPrint(r) {
			t.Errorf("%q is in %q", r, line)
		}
	}
}

func TestDecoderAcceptsNoOtherSpelling(t *testing.T) {
	line := string(mustLine(t, fullRecord()))
	for name, other := range map[string]string{
		"space":            strings.Replace(line, `,"log"`, `, "log"`, 1),
		"unknown field":    strings.Replace(line, `,"log"`, `,"x":1,"log"`, 1),
		"field twice":      strings.Replace(line, `,"log"`, `,"v":1,"log"`, 1),
		"field in caps":    strings.Replace(line, `"log"`, `"LOG"`, 1),
		"order":            strings.Replace(line, `,"app":"wiki","effect":"deny"`, `,"effect":"deny","app":"wiki"`, 1),
		"needless escape":  strings.Replace(line, `wiki`, `w\u0069ki`, 1),
		"other digest":     strings.Replace(line, `"input_digest":"sha256:`, `"input_digest":"sha256:0`, 1),
		"no digest":        line[:strings.Index(line, `,"input_digest"`)] + line[strings.Index(line, `,"policy"`):],
		"changed input":    strings.Replace(line, `/ä`, `/b`, 1),
		"trailing":         line + " ",
		"second value":     line + "{}",
		"short time":       strings.Replace(line, `.000000004Z`, `.4Z`, 1),
		"other zone":       strings.Replace(line, `.000000004Z`, `.000000004+00:00`, 1),
		"null":             strings.Replace(line, `"memo":true`, `"memo":null`, 1),
		"newer version":    strings.Replace(line, `"v":1`, `"v":2`, 1),
		"one attempt":      strings.Replace(line, `"attempts":2`, `"attempts":1`, 1),
		"unknown type":     strings.Replace(line, `"type":"decision"`, `"type":"verdict"`, 1),
		"negative seq":     strings.Replace(line, `"seq":18446744073709551615`, `"seq":-1`, 1),
		"larger than ever": strings.Replace(line, `wiki`, strings.Repeat("w", MaxRecord), 1),
		"empty":            "",
		"no object":        "null",
	} {
		if other == line {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if r, err := DecodeRecord([]byte(other)); err == nil {
			t.Errorf("%s was accepted as %+v: %s", name, r, other)
		}
	}
}

func TestUnfitRecordsAreRefused(t *testing.T) {
	a := openTest(t, t.TempDir(), Options{})
	for name, r := range map[string]*Record{
		"no type":        {},
		"unknown type":   {Type: "verdict"},
		"broken input":   {Type: TypeDecision, Input: json.RawMessage(`{"a":`)},
		"two inputs":     {Type: TypeDecision, Input: json.RawMessage(`{}{}`)},
		"line in string": {Type: TypeDecision, Decision: json.RawMessage("\"a\nb\"")},
		"deep detail":    {Type: TypeControl, Detail: json.RawMessage(strings.Repeat("[", 200) + strings.Repeat("]", 200))},
		"too large":      {Type: TypeControl, Reason: strings.Repeat("x", MaxRecord)},
		"large escaped":  {Type: TypeControl, Reason: strings.Repeat("\x00", MaxRecord/6)},
	} {
		if _, err := a.Control().Append(t.Context(), r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	largest := &Record{Type: TypeControl, Reason: strings.Repeat("x", MaxRecord-512)}
	if _, err := a.Control().Append(t.Context(), largest); err != nil {
		t.Errorf("a record of almost 60 KiB: %v", err)
	}
}

// verbatim is a Document of these bytes.
type verbatim []byte

func (w verbatim) AppendJSON(dst []byte) []byte { return append(dst, w...) }

// An input that writes itself is recorded like one that was handed in, whatever it consists of. Only of visible ASCII is
// it taken at its word.
func TestDocumentsAreRecordedAsInputs(t *testing.T) {
	for _, input := range []string{`{}`, `{"path":"/a b"}`, `{"path":"/ä"}`, "{\n\t\"path\": \"/\u202e\xff\"\n}", `"\u007f"`, "\"\x7f\"", " {} "} {
		r := &Record{Type: TypeDecision, Input: json.RawMessage(input)}
		want := mustLine(t, r)
		r.Document, r.Input = verbatim(input), json.RawMessage(`"does not count"`)
		if input == " {} " { // white space that a Document must not write, and that an Input loses
			want = bytes.ReplaceAll(want, []byte("{}"), []byte(input))
			want = want[:bytes.Index(want, []byte("sha256:"))]
		}
		if got := mustLine(t, r); !bytes.HasPrefix(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestUnfitDocumentsAreRefused(t *testing.T) {
	for _, input := range []string{"", "\n", "\xff", "{\"ä\":}", "{}\n{}", "\"a\nb\"", "\"\x00\""} {
		if line, err := (&Record{Type: TypeDecision, Document: verbatim(input)}).line(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid: %s", input, err, line)
		}
	}
}

func TestIsPlain(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				text := bytes.Repeat([]byte{'a'}, length)
				for _, other := range []byte{'a', ' ', '~'} { // next to the limits on both sides
					for i := range text {
						text[i] = other
					}
					text[at] = byte(c)
					if got, want := isPlain(text), c >= ' ' && c < 0x7f; got != want {
						t.Fatalf("isPlain(%q) = %t", text, got)
					}
				}
			}
		}
	}
}

func TestTimesHaveNineDigits(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(1795312803, 4), time.Unix(1795312803, 120_000_000).In(zone), time.Unix(1<<33, 999_999_999)} {
		if got, want := string(appendTime(nil, at)), at.UTC().Format(timeFormat); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestIDsAreUUIDs(t *testing.T) {
	g, now, seen := new(ids), time.Unix(1795312803, 4), map[string]bool{}
	for range 1000 {
		text := g.next(now)
		id, err := uuid.Parse(text)
		if err != nil || id.String() != text || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%s: %v", text, err)
		}
		if sec, ns := id.Time().UnixTime(); time.Unix(sec, ns).UnixMilli() != now.UnixMilli() {
			t.Errorf("%s is of %v", text, time.Unix(sec, ns))
		}
		random := text[14:] // behind the time
		if seen[random] {
			t.Fatalf("%s came twice", random)
		}
		seen[random] = true
	}
}

func TestCheckJSONAgreesWithEncodingJSON(t *testing.T) {
	for _, s := range []string{
		``, ` `, `{}`, `[]`, `[1,]`, `[,1]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a":1 "b":2}`, `01`, `-`, `-0`, `1.`, `.1`, `1e`, `1e+`,
		`1E-07`, `+1`, `0x1`, `NaN`, `tru`, `true`, `nullx`, `"`, `"\"`, `"\x"`, `"\u12"`, `"\u12G4"`, `"\ud800"`, "\"\t\"", "\t[ ]\n",
		`"a" "b"`, `[[]]`, `{"a":{"b":[{}]}}`, "\"\xff\"", "\xff", `[1 2]`, `{"a":1}}`,
	} {
		if _, err := checkJSON([]byte(s)); (err == nil) != json.Valid([]byte(s)) {
			t.Errorf("%q: %v, encoding/json says %t", s, err, json.Valid([]byte(s)))
		}
	}
}

// Decoding and encoding must not drift from the type: every field is covered by fullRecord.
func TestFullRecordIsFull(t *testing.T) {
	r := fullRecord()
	r.InputDigest = "sha256:"
	for _, v := range []reflect.Value{reflect.ValueOf(*r), reflect.ValueOf(*r.Outcome), reflect.ValueOf(*r.Actor)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() && v.Type().Field(i).Tag.Get("json") != "-" {
				t.Errorf("%s of %v is empty", v.Type().Field(i).Name, v.Type())
			}
		}
	}
}

// A request that one endpoint answered at once, without a cache, needs no words for it.
func TestOrdinaryOutcomesAreShort(t *testing.T) {
	for _, attempts := range []int{0, 1} {
		line := mustLine(t, &Record{Type: TypeOutcome, Outcome: &Outcome{Of: "x", Status: 200, Attempts: attempts}})
		if want := `"outcome":{"of":"x","status":200,"bytes_in":0,"bytes_out":0,"duration_ns":0}`; !strings.Contains(string(line), want) {
			t.Errorf("after %d attempts: %s does not contain %s", attempts, line, want)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(mustLine(f, fullRecord()))
	f.Add(mustLine(f, &Record{Type: TypeHeartbeat, Time: time.Unix(0, 0)}))
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := DecodeRecord(line)
		if err != nil {
			return
		}
		checkLine(t, line)
		if again := mustLine(t, r); !bytes.Equal(again, line) {
			t.Errorf("accepted %s, which the log writes as %s", line, again)
		}
	})
}

func FuzzEncodeRecord(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, []byte(`{"path":"/"}`))
		f.Add("", []byte(`["`+s+`"]`))
	}
	f.Fuzz(func(t *testing.T, s string, raw []byte) {
		if _, err := checkJSON(raw); (err == nil) != json.Valid(raw) && bytes.Count(raw, []byte("["))+bytes.Count(raw, []byte("{")) < maxDepth {
			t.Fatalf("%q: %v, encoding/json says %t", raw, err, json.Valid(raw))
		}
		r := &Record{V: Version, Type: TypeDecision, App: s, Reason: s, Input: raw, Actor: &Actor{Kind: s, ID: s}}
		line, err := r.line()
		if err != nil {
			return
		}
		checkLine(t, line)
		document := *r
		document.Input, document.Document = nil, verbatim(bytes.Trim(raw, " \t\r\n"))
		if again, err := document.line(); len(raw) > 0 && (err != nil || !bytes.Equal(again, line)) {
			t.Errorf("as a document: %s, %v\nas an input:   %s", again, err, line)
		}
		back, err := DecodeRecord(line)
		if err != nil {
			t.Fatalf("own line refused: %v\n%s", err, line)
		}
		if !sameMeaning(back.Input, raw) && len(raw) > 0 {
			t.Errorf("input %q was stored as %q", raw, back.Input)
		}
	})
}

// sameMeaning compares JSON values; invalid UTF-8 means U+FFFD to everybody.
func sameMeaning(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y) ||
		json.Unmarshal(a, &x) != nil && json.Unmarshal(b, &y) != nil
}
