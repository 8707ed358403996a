package audit

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestPolicyArchivesAreKeptByDigest(t *testing.T) {
	dir := t.TempDir()
	a := openTest(t, dir, Options{})
	archive := []byte("a policy")
	digest := policyDigest(archive)
	for range 2 {
		if err := a.KeepPolicy(digest, archive); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := ReadPolicy(dir, digest); err != nil || !bytes.Equal(got, archive) {
		t.Errorf("read %q, %v", got, err)
	}
	if err := a.KeepPolicy(digest, []byte("another")); err == nil {
		t.Error("an archive was kept under another's digest")
	}
	if _, err := ReadPolicy(dir, policyDigest(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown digest: %v, want fs.ErrNotExist", err)
	}
	for _, bad := range []string{"", "sha256:", digest[7:], "sha256:../../etc/passwd", digest + "0", "SHA256:" + digest[7:]} {
		if _, err := ReadPolicy(dir, bad); err == nil {
			t.Errorf("digest %q was accepted", bad)
		}
	}
	name, err := policyName(digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("a changed policy"), fileMode); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPolicy(dir, digest); err == nil {
		t.Error("a changed archive was returned")
	}
}

// After any cut an archive that was kept is there, whole.
func TestPolicyArchivesSurvivePowerCuts(t *testing.T) {
	rnd := randomness(t)
	archive := bytes.Repeat([]byte("policy "), 1000)
	digest := policyDigest(archive)
	kept := 0
	for range rounds(t, 60) {
		d := newDisk(rnd)
		m := d.boot(rnd.IntN(8), true)
		store := policyStore{fs: m}
		err := store.keep(digest, archive)
		d.stop()
		if err != nil {
			continue
		}
		kept++
		if got, err := readPolicy(d.boot(-1, false), digest); err != nil || !bytes.Equal(got, archive) {
			t.Fatalf("kept archive after a power cut: %d bytes, %v", len(got), err)
		}
	}
	if kept == 0 {
		t.Error("no archive was ever kept: the test shows nothing")
	}
}
