package evidence

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sallyport/audit"
)

func mixed(t testing.TB) []byte {
	opts := options(t)
	opts.Query, opts.Match = "deny", contains(`"effect":"deny"`)
	return bundleBytes(t, newArchive(60), opts)
}

// AUD-05: whichever bit of a bundle turns, it is found. All bits around the files, and random ones within.
func TestEveryTurnedBitIsFound(t *testing.T) {
	good := mixed(t)
	random := newRandom(t)
	flips := make([]int, 0, 10_000)
	for range rounds(t, 1500) {
		flips = append(flips, random.IntN(8*len(good)))
	}
	for i := range 600 { // the end: most of the directory and what follows it
		flips = append(flips, 8*(len(good)-1-i)+random.IntN(8))
	}
	name := filepath.Join(t.TempDir(), "bundle.zip")
	for _, bit := range flips {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if found := judge(t, name, bad); found == "" {
			t.Errorf("bit %d of byte %d turned unnoticed", bit%8, bit/8)
		}
	}
}

// judge says what is wrong with a bundle; nothing when it is all right.
func judge(t *testing.T, name string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, err := Open(name)
	if err != nil {
		if !errors.Is(err, ErrAltered) && !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrNotBundle) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return err.Error()
	}
	defer bundle.Close()
	if found := problems(bundle); len(found) > 0 {
		return found[0].Error()
	}
	return ""
}

func TestBundleThatWasCutOffIsIncomplete(t *testing.T) {
	good := mixed(t)
	random := newRandom(t)
	sizes := []int{len(good) - 1, len(good) - endSize, len(good) - endSize - 1, localSize + 1}
	for range rounds(t, 300) {
		sizes = append(sizes, localSize+random.IntN(len(good)-localSize))
	}
	for _, size := range sizes {
		if _, err := openBytes(t, good[:size]); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("cut to %d of %d bytes: %v", size, len(good), err)
		}
	}
	for _, b := range [][]byte{nil, []byte("PK"), []byte("{}\n"), bytes.Repeat([]byte{0}, 5000)} {
		if _, err := openBytes(t, b); !errors.Is(err, ErrNotBundle) {
			t.Errorf("%d bytes of something else: %v", len(b), err)
		}
	}
}

func TestWhatIsAddedToTheZipIsFound(t *testing.T) {
	good := mixed(t)
	for name, bad := range map[string][]byte{
		"behind":    append(bytes.Clone(good), 0),
		"in front":  append([]byte{0}, good...),
		"a comment": withComment(good, "hello"),
	} {
		t.Run(name, func(t *testing.T) {
			if judge(t, filepath.Join(t.TempDir(), "b.zip"), bad) == "" {
				t.Error("not found")
			}
		})
	}
}

func withComment(b []byte, comment string) []byte {
	b = append(bytes.Clone(b), comment...)
	b[len(b)-len(comment)-2] = byte(len(comment))
	return b
}

// packAgain packs a bundle's files as another program would, each as change says.
func packAgain(t testing.TB, good []byte, change func(name string, text []byte) []byte) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if text = change(f.Name, text); text == nil {
			continue
		}
		add(t, w, f.Name, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func add(t testing.TB, w *zip.Writer, name string, text []byte) {
	t.Helper()
	f, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
}

func same(_ string, text []byte) []byte { return text }

func TestMissingAlteredAndUnlistedFilesAreToldApart(t *testing.T) {
	good := mixed(t)
	if found := problems(mustOpen(t, packAgain(t, good, same))); len(found) != 1 || found[0].Kind != Repacked {
		t.Errorf("packed again: %v", found)
	}
	for _, name := range names(mustOpen(t, good)) {
		if name == ManifestName {
			continue
		}
		without := packAgain(t, good, func(n string, text []byte) []byte {
			if n == name {
				return nil
			}
			return text
		})
		if found := problems(mustOpen(t, without)); !has(found, Missing, name) || has(found, Altered, "") {
			t.Errorf("without %s: %v", name, found)
		}
		if name == NoteName {
			continue
		}
		edited := packAgain(t, good, func(n string, text []byte) []byte {
			if n == name {
				text = bytes.Clone(text)
				text[len(text)/2] ^= 1
			}
			return text
		})
		if found := problems(mustOpen(t, edited)); !has(found, Altered, name) || has(found, Missing, name) {
			t.Errorf("with another %s: %v", name, found)
		}
	}
	more := packAgain(t, good, func(n string, text []byte) []byte { return text })
	more = appendFile(t, more, "records/decision/extra.jsonl", "{}\n")
	if found := problems(mustOpen(t, more)); !has(found, Unlisted, "records/decision/extra.jsonl") {
		t.Errorf("with one more file: %v", found)
	}
}

// appendFile packs all files again with one more.
func appendFile(t testing.TB, b []byte, name, text string) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		if err := w.Copy(f); err != nil {
			t.Fatal(err)
		}
	}
	add(t, w, name, []byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBundleWithoutManifestIsIncomplete(t *testing.T) {
	without := packAgain(t, mixed(t), func(name string, text []byte) []byte {
		if name == ManifestName {
			return nil
		}
		return text
	})
	if _, err := openBytes(t, without); !errors.Is(err, ErrIncomplete) {
		t.Errorf("got %v", err)
	}
}

// forged is a bundle whose manifest was changed and signed anew, as by a manifest key in the wrong hands; its other files
// are as they were.
func forged(t testing.TB, good []byte, change func(*Manifest)) []byte {
	opts := options(t)
	m := *mustOpen(t, good).Manifest()
	m.Logs, m.Files = slices.Clone(m.Logs), slices.Clone(m.Files)
	change(&m)
	text, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := opts.Sign(sha256.Sum256(text))
	if err != nil {
		t.Fatal(err)
	}
	return packAgain(t, good, func(name string, old []byte) []byte {
		switch name {
		case ManifestName:
			return text
		case NoteName:
			return signed
		}
		return old
	})
}

func TestManifestThatContradictsItselfIsRefused(t *testing.T) {
	good := mixed(t)
	decision := func(m *Manifest) *LogManifest { return m.Log(audit.DecisionLog) }
	for name, change := range map[string]func(*Manifest){
		"a range of another length":    func(m *Manifest) { decision(m).Records++ },
		"an end beyond the tree":       func(m *Manifest) { decision(m).Size = decision(m).End - 1 },
		"a begin after the end":        func(m *Manifest) { decision(m).First = decision(m).End + 1 },
		"more matches than records":    func(m *Manifest) { decision(m).Matching = 1 << 40 },
		"withheld records in the open": func(m *Manifest) { decision(m).Withheld = 1 },
		"a part left out":              func(m *Manifest) { decision(m).Parts = decision(m).Parts[1:] },
		"counts that do not add up":    func(m *Manifest) { decision(m).Counts[0].Records++ },
		"a log twice":                  func(m *Manifest) { m.Logs = append(m.Logs, m.Logs[0]) },
		"a file twice":                 func(m *Manifest) { m.Files = append(m.Files, m.Files[0]) },
		"a file of no bundle":          func(m *Manifest) { m.Files[0].Name = "../../etc/passwd" },
		"a file for nothing":           func(m *Manifest) { m.Files[0].Name = "policies/" + strings.Repeat("0", 64) + ".tar" },
		"a file too large":             func(m *Manifest) { m.Files[0].Size = 1 << 50 },
		"a policy that is not listed":  func(m *Manifest) { m.Policies = append(m.Policies, "sha256:"+strings.Repeat("0", 64)) },
		"a policy of no digest":        func(m *Manifest) { m.MissingPolicies = []string{"../x"} },
		"itself":                       func(m *Manifest) { m.Files[0].Name = ManifestName },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := openBytes(t, forged(t, good, change)); !errors.Is(err, ErrAltered) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := openBytes(t, forged(t, good, func(m *Manifest) { m.Version++ })); !errors.Is(err, ErrVersion) {
		t.Errorf("another version: %v", err)
	}
	if _, err := openBytes(t, forged(t, good, func(m *Manifest) { m.Format = "x" })); !errors.Is(err, ErrNotBundle) {
		t.Errorf("another format: %v", err)
	}
	if _, err := openBytes(t, forged(t, good, func(*Manifest) {})); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// Records are compared with what the manifest says of each part, even where its key signed something else.
func TestPartsHoldWhatTheManifestSays(t *testing.T) {
	good := mixed(t)
	m := mustOpen(t, good).Manifest()
	part := m.Log(audit.ControlLog).Parts[0] // none of which matches
	for name, text := range map[string]string{
		"a line too few":        "{}\n",
		"no end of line":        "{}",
		"a hash in the open":    strings.Repeat(strings.Repeat("A", 43)+"=\n", int(part.Records)),
		"an empty line":         strings.Repeat("\n", int(part.Records)),
		"a line that is longer": "{" + strings.Repeat(" ", audit.MaxRecord) + "}\n",
	} {
		t.Run(name, func(t *testing.T) {
			bad := forged(t, good, func(m *Manifest) {
				i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == part.File })
				packed := newPacker(&Options{}).pack(part.File, []byte(text))
				m.Files[i] = packed.file
			})
			bad = packAgain(t, bad, func(name string, old []byte) []byte {
				if name == part.File {
					return []byte(text)
				}
				return old
			})
			if found := problems(mustOpen(t, bad)); !has(found, Altered, part.File) {
				t.Errorf("found %v", found)
			}
		})
	}
}

// What a manifest's note or its form leaves open could be changed by whoever packs the zip again.
func TestManifestHasOneFormAndOneNote(t *testing.T) {
	good := mixed(t)
	text := string(mustOpen(t, good).ManifestText())
	signed := string(mustOpen(t, good).Note())
	last := strings.TrimRight(signed, "=\n")
	for name, change := range map[string]func() (manifest, note string){
		"another manifest under the note": func() (string, string) { return strings.Replace(text, "uid:1000", "uid:1001", 1), signed },
		"no text above the signature":     func() (string, string) { return text, "\n\n" + signed[strings.Index(signed, "\n\n")+2:] },
		"a note without signature":        func() (string, string) { return text, NoteText(keyName, sha256.Sum256([]byte(text))) },
		"a signature spelt another way": func() (string, string) {
			letter := last[len(last)-1] // its last bits say nothing
			return text, last[:len(last)-1] + string(rune(letter+1)) + signed[len(last):]
		},
		"a field more":  func() (string, string) { return resigned(t, strings.Replace(text, "{", "{\n  \"x\": 1,", 1)) },
		"other blanks":  func() (string, string) { return resigned(t, strings.Replace(text, ": ", ":  ", 1)) },
		"a field twice": func() (string, string) { return resigned(t, strings.Replace(text, "{", "{\n  \"who\": \"me\",", 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			manifest, signature := change()
			bad := packAgain(t, good, func(name string, old []byte) []byte {
				switch name {
				case ManifestName:
					return []byte(manifest)
				case NoteName:
					return []byte(signature)
				}
				return old
			})
			if _, err := openBytes(t, bad); !errors.Is(err, ErrAltered) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func resigned(t *testing.T, text string) (manifest, signed string) {
	n, err := options(t).Sign(sha256.Sum256([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	return text, string(n)
}

// Packed bytes behind the end of what they unpack to would be a place for anything.
func TestNothingHidesBehindPackedBytes(t *testing.T) {
	good := mixed(t)
	z, err := zip.NewReader(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range z.File {
		raw, err := f.OpenRaw()
		if err != nil {
			t.Fatal(err)
		}
		packed, err := io.ReadAll(raw)
		if err != nil {
			t.Fatal(err)
		}
		header := f.FileHeader
		if f.Name == ReadmeName {
			packed = append(packed, "hidden"...)
			header.CompressedSize64 += 6
		}
		to, err := w.CreateRaw(&header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(packed); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.SetComment("packed again"), w.Close()); err != nil {
		t.Fatal(err)
	}
	found := problems(mustOpen(t, b.Bytes()))
	if i := slices.IndexFunc(found, func(p Problem) bool { return p.Name == ReadmeName }); i < 0 || found[i].Kind != Altered || !errors.Is(found[i].Err, errMore) {
		t.Errorf("found %v", found)
	}
}

// Zips of strangers: what they claim costs nothing, and nothing they name is touched.
func TestHostileZipsAreRefused(t *testing.T) {
	good := mixed(t)
	bomb := func(name string, claim uint64) []byte {
		var packed bytes.Buffer
		w, err := flate.NewWriter(&packed, flate.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 64<<20)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		f, err := z.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Deflate, CompressedSize64: uint64(packed.Len()), UncompressedSize64: claim})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(packed.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	many := &zipWriter{w: io.Discard}
	for i := range maxFiles {
		if err := many.add(member{name: fmt.Sprint(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := many.add(member{name: "x"}, nil); err == nil {
		t.Error("a writer adds more files than a reader takes")
	}
	for name, bad := range map[string][]byte{
		"a manifest that grows":        bomb(ManifestName, 10),
		"a manifest that is too large": bomb(ManifestName, 1<<40),
		"a manifest beyond its limit":  bomb(ManifestName, 64<<20+1),
		"a note that grows":            appendFile(t, bomb(NoteName, 10), ManifestName, "{}"),
		"a file twice":                 appendFile(t, good, ReadmeName, "twice"),
		"a manifest twice":             appendFile(t, good, ManifestName, "{}"),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := openBytes(t, bad)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrAltered) {
				t.Errorf("got %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
		})
	}
	for _, name := range []string{"../../evil", "/etc/passwd", "records/../../x", "records\\decision\\x", "con", "a\x00b"} {
		found := problems(mustOpen(t, appendFile(t, good, name, "x")))
		if !has(found, Unlisted, name) {
			t.Errorf("%q: %v", name, found)
		}
	}
}

// Offsets beyond 4 GiB and counts beyond 65,535 take zip64; other programs read those as well.
func TestLargeBundlesAreZip64(t *testing.T) {
	for _, offset := range []int64{0, 1<<32 - 2, 1<<32 - 1, 1 << 40} {
		m := member{name: "records/decision/00000000000000000000.jsonl", method: methodDeflate, crc: 7, packed: 5, size: 9, offset: offset}
		directory := m.appendCentral(nil)
		got, err := parseDirectory(directory, 1)
		if err != nil || got[0] != m {
			t.Errorf("offset %d is read as %+v: %v", offset, got, err)
		}
		for i := range directory {
			bad := bytes.Clone(directory)
			bad[i] ^= 1
			if got, err := parseDirectory(bad, 1); err == nil && got[0] == m {
				t.Errorf("byte %d of an entry means nothing", i)
			}
		}
	}
	var b bytes.Buffer
	w := &zipWriter{w: &b}
	const count = 70_000
	for i := range count {
		if err := w.add(member{name: fmt.Sprint(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(z.File) != count {
		t.Fatalf("another program reads %v", err)
	}
	members, err := readContainer(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || len(members) != count {
		t.Errorf("%d members: %v", len(members), err)
	}
}

func FuzzOpen(f *testing.F) {
	opts := options(f)
	f.Add(bundleBytes(f, newArchive(3), opts))
	opts.OnlyMatching, opts.Query, opts.Match = true, "deny", contains(`"effect":"deny"`)
	good := bundleBytes(f, newArchive(8), opts)
	f.Add(good)
	f.Add(packAgain(f, good, same))
	f.Fuzz(func(t *testing.T, b []byte) {
		bundle, err := openBytes(t, b)
		if err != nil {
			return
		}
		// What opens and has no problem is, byte for byte, what a writer writes of these files.
		if len(problems(bundle)) > 0 {
			return
		}
		var again bytes.Buffer
		w := &zipWriter{w: &again}
		members := slices.Collect(func(yield func(member) bool) {
			for _, m := range bundle.members {
				if !yield(m) {
					return
				}
			}
		})
		slices.SortFunc(members, func(a, b member) int { return int(a.offset - b.offset) })
		for _, m := range members {
			packed, err := bundle.packedBytes(&m)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.add(m, packed); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.close(); err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Error("a bundle without a problem has another form than it was written in")
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	src := newArchive(100_000)
	opts := options(b)
	opts.partSize = 0
	var size int64
	for _, raw := range src.records[audit.DecisionLog] {
		size += int64(len(raw))
	}
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Write(b.Context(), io.Discard, src, opts); err != nil {
			b.Fatal(err)
		}
	}
}
