package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// policiesFolder holds each policy archive under its digest, below the audit directory, because a decision cannot be
// recomputed without it.
const policiesFolder = "policies"

// policyStore keeps policy archives by digest.
type policyStore struct {
	fs   FileSystem
	mu   sync.Mutex
	kept map[string]bool // known to be durable
}

// KeepPolicy stores the archive of an effective bundle under its digest, which must be "sha256:" and the hex SHA-256
// of the archive. It is durable on return. Keeping it again costs nothing.
func (a *Audit) KeepPolicy(digest string, archive []byte) error {
	if err := a.policies.keep(digest, archive); err != nil {
		return fmt.Errorf("keeping policy archive: %w", err)
	}
	return nil
}

// ReadPolicy returns the archive with that digest from an audit directory, checked against it. A digest that was never
// kept answers fs.ErrNotExist.
func ReadPolicy(dir, digest string) ([]byte, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	archive, err := readPolicy(d, digest)
	if err != nil {
		return nil, fmt.Errorf("reading policy archive: %w", err)
	}
	return archive, nil
}

// FindPolicy completes a digest of at least twelve digits, with or without "sha256:", to that of the one archive in an
// audit directory that it begins. None answers fs.ErrNotExist.
func FindPolicy(dir, digest string) (string, error) {
	digits := strings.TrimPrefix(digest, "sha256:")
	if len(digits) < 12 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is not a policy digest, nor twelve digits of one", digest)
	}
	kept, err := KeptPolicies(dir)
	if err != nil {
		return "", err
	}
	var found []string
	for _, k := range kept {
		if strings.HasPrefix(k.Digest, "sha256:"+digits) {
			found = append(found, k.Digest)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("policy %s was never kept: %w", digest, fs.ErrNotExist)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%s begins several digests: %s", digest, strings.Join(found, " "))
}

// KeptPolicy is one policy archive of an audit directory.
type KeptPolicy struct {
	Digest string    `json:"digest"`
	Kept   time.Time `json:"kept"` // when it was first in force, by the file's time
	Size   int64     `json:"size"`
}

// KeptPolicies lists the policy archives of an audit directory, the newest first.
func KeptPolicies(dir string) ([]KeptPolicy, error) {
	entries, err := os.ReadDir(filepath.Join(dir, policiesFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing policy archives: %w", err)
	}
	var kept []KeptPolicy
	for _, e := range entries {
		digits, isArchive := strings.CutSuffix(e.Name(), ".tar")
		info, err := e.Info()
		if _, wrong := policyName("sha256:" + digits); !isArchive || err != nil || wrong != nil {
			continue
		}
		kept = append(kept, KeptPolicy{"sha256:" + digits, info.ModTime(), info.Size()})
	}
	slices.SortFunc(kept, func(a, b KeptPolicy) int {
		return cmp.Or(b.Kept.Compare(a.Kept), strings.Compare(a.Digest, b.Digest))
	})
	return kept, nil
}

func (p *policyStore) keep(digest string, archive []byte) error {
	name, err := policyName(digest)
	if err != nil {
		return err
	}
	if policyDigest(archive) != digest {
		return fmt.Errorf("archive does not have the digest %s", digest)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept[digest] {
		return nil
	}
	if err := p.write(name, archive); err != nil {
		return err
	}
	if p.kept == nil {
		p.kept = make(map[string]bool)
	}
	p.kept[digest] = true
	return nil
}

// write puts the archive in place by renaming, whatever an earlier run may have left there.
func (p *policyStore) write(name string, archive []byte) error {
	if err := p.fs.MkdirAll(policiesFolder); err != nil {
		return err
	}
	if err := p.fs.SyncDir("."); err != nil {
		return err
	}
	temporary := name + temporarySuffix
	f, err := p.fs.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(archive, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = p.fs.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, p.fs.Remove(temporary))
	}
	return p.fs.SyncDir(policiesFolder)
}

func readPolicy(fsys FileSystem, digest string) ([]byte, error) {
	name, err := policyName(digest)
	if err != nil {
		return nil, err
	}
	f, err := fsys.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.NewSectionReader(f, 0, size)); err != nil {
		return nil, err
	}
	if policyDigest(b.Bytes()) != digest {
		return nil, fmt.Errorf("%s does not have its digest", name)
	}
	return b.Bytes(), nil
}

func policyDigest(archive []byte) string {
	sum := sha256.Sum256(archive)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// policyName is the file of a digest; digests come from records too, so nothing but a digest passes.
func policyName(digest string) (string, error) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size || text != strings.ToLower(text) {
		return "", fmt.Errorf("%q is not a policy digest", digest)
	}
	return path.Join(policiesFolder, text+".tar"), nil
}
