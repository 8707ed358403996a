package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

var someRoot = [32]byte{1, 2, 3}

const rootText = "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

func TestCheckpointsHaveOneText(t *testing.T) {
	old := Checkpoint{Origin: "corp.example/audit/decision", Size: 7, Root: someRoot}
	c := Checkpoint{Origin: "corp.example/audit/decision/2", Size: MaxSize, Root: someRoot, Previous: old.PreviousLine()}
	want := "corp.example/audit/decision/2\n4611686018427387904\n" + rootText + "\nprevious corp.example/audit/decision 7 " + rootText + "\n"
	if got := string(c.AppendText(nil)); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if got, err := ParseCheckpoint([]byte(want)); err != nil || got != c {
		t.Errorf("got %v %v, want %v", got, err, c)
	}
	if got, err := ParsePrevious(c.Previous); err != nil || got != old {
		t.Errorf("got %v %v, want %v", got, err, old)
	}
	good := string(old.AppendText(nil))
	for name, text := range map[string]string{
		"nothing":                "",
		"no line break":          strings.TrimSuffix(good, "\n"),
		"an empty line":          good + "\n",
		"a carriage return":      strings.Replace(good, "\n", "\r\n", 1),
		"an extension":           good + "extension\n",
		"two extensions":         good + c.Previous + "\n" + c.Previous + "\n",
		"previous of nothing":    good + "previous\n",
		"previous, two spaces":   good + strings.Replace(c.Previous, " 7", "  7", 1) + "\n",
		"leading zero":           strings.Replace(good, "\n7\n", "\n07\n", 1),
		"plus":                   strings.Replace(good, "\n7\n", "\n+7\n", 1),
		"negative":               strings.Replace(good, "\n7\n", "\n-7\n", 1),
		"hexadecimal":            strings.Replace(good, "\n7\n", "\n0x7\n", 1),
		"more than there can be": strings.Replace(good, "\n7\n", "\n4611686018427387905\n", 1),
		"more than 64 bits":      strings.Replace(good, "\n7\n", "\n18446744073709551623\n", 1),
		"no size":                strings.Replace(good, "\n7\n", "\n\n", 1),
		"short root":             strings.Replace(good, rootText, "AQID", 1),
		"root without padding":   strings.Replace(good, rootText, strings.TrimSuffix(rootText, "="), 1),
		"root's spare bits set":  strings.Replace(good, rootText, strings.Replace(rootText, "A=", "B=", 1), 1),
		"URL alphabet":           strings.Replace(good, rootText, "-"+rootText[1:], 1),
		"no origin":              strings.Replace(good, old.Origin, "", 1),
		"origin with a space":    strings.Replace(good, old.Origin, "a b", 1),
		"origin with a plus":     strings.Replace(good, old.Origin, "a+b", 1),
		"origin with a dot dot":  strings.Replace(good, old.Origin, "a/../b", 1),
		"origin ends in slash":   strings.Replace(good, old.Origin, "a/", 1),
		"endless origin":         strings.Replace(good, old.Origin, strings.Repeat("a", 201), 1),
		"a manifest":             string(ManifestText("corp.example/audit/manifest", someRoot)),
	} {
		if c, err := ParseCheckpoint([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %v", name, c)
		}
	}
}

func TestGrowthHasOneText(t *testing.T) {
	g := Growth{Old: 3, Proof: [][32]byte{someRoot, {}}, Body: []byte("body\n\nof any kind")}
	text := g.AppendText(nil)
	if got, err := ParseGrowth(text); err != nil || got.Old != 3 || !slices.Equal(got.Proof, g.Proof) || !bytes.Equal(got.Body, g.Body) {
		t.Errorf("got %v %v, want %v", got, err, g)
	}
	full := Growth{Proof: make([][32]byte, MaxProof)}
	if _, err := ParseGrowth(full.AppendText(nil)); err != nil {
		t.Errorf("a proof of %d hashes: %v", MaxProof, err)
	}
	full.Proof = make([][32]byte, MaxProof+1)
	for name, text := range map[string]string{
		"nothing":          "",
		"no empty line":    "old 3\nbody\n",
		"no old":           rootText + "\n\nbody\n",
		"Old":              "Old 3\n\nbody\n",
		"old of nothing":   "old \n\nbody\n",
		"old with a zero":  "old 03\n\nbody\n",
		"old, two spaces":  "old  3\n\nbody\n",
		"no base64":        "old 3\nabc\n\nbody\n",
		"carriage return":  "old 3\r\n\r\nbody\n",
		"too long a proof": string(full.AppendText(nil)),
	} {
		if g, err := ParseGrowth([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %v", name, g)
		}
	}
}

// FuzzGrowth: whatever is read is written again byte by byte, the request and its checkpoint alike, so that no two texts
// mean the same. KEY-09, KEY-14.
func FuzzGrowth(f *testing.F) {
	c := Checkpoint{Origin: "corp.example/audit/decision", Size: 7, Root: someRoot}
	next := Checkpoint{Origin: EpochOrigin(c.Origin, 2), Root: someRoot, Previous: c.PreviousLine()}
	f.Add(Growth{Old: 3, Proof: [][32]byte{someRoot}, Body: c.AppendText(nil)}.AppendText(nil))
	f.Add(Growth{Body: next.AppendText(nil)}.AppendText(nil))
	f.Add([]byte("old 0\n\n\n0\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseGrowth(data)
		if err != nil {
			return
		}
		if again := g.AppendText(nil); !bytes.Equal(again, data) {
			t.Fatalf("read %q, written %q", data, again)
		}
		if c, err := ParseCheckpoint(g.Body); err == nil {
			if again := c.AppendText(nil); !bytes.Equal(again, g.Body) || c.Size > MaxSize || !ValidOrigin(c.Origin) {
				t.Fatalf("read %q, written %q", g.Body, again)
			}
		}
	})
}
