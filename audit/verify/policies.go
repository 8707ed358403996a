package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

const (
	policiesFolder = "policies"
	policySuffix   = ".tar"
	// maxArchive bounds a policy archive that is read into memory to decide with.
	maxArchive = 256 << 20
)

// checkPolicies compares every policy archive with the digest that is its name.
func (r *run) checkPolicies() error {
	if !r.folder.isFolder(policiesFolder) || r.skip.policies {
		return nil
	}
	for e, err := range r.folder.list(policiesFolder) {
		if err != nil {
			return err
		}
		name := policiesFolder + "/" + e.Name()
		digest, ok := strings.CutSuffix(e.Name(), policySuffix)
		if strings.HasSuffix(name, ".tmp") {
			continue
		}
		if raw, err := hex.DecodeString(digest); !ok || err != nil || len(raw) != sha256.Size || strings.ToLower(digest) != digest {
			r.unknown(name)
			continue
		}
		sum, err := r.sum(name)
		if isDisk(err) {
			return err
		}
		r.report.Policies++
		if err != nil {
			r.report.add(Finding{Severity: Tampered, Class: ClassPolicy, File: name, Text: fmt.Sprintf("the policy archive cannot be read: %v", err)})
		} else if sum != digest {
			r.report.add(Finding{Severity: Tampered, Class: ClassPolicy, File: name, Text: fmt.Sprintf("the policy archive has the digest %s", sum)})
		}
	}
	return nil
}

// sum is the SHA-256 of a file, in hexadecimal.
func (r *run) sum(name string) (string, error) {
	f, _, err := r.folder.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// policyArchive returns the archive with that digest, which may come from a record.
func (r *run) policyArchive(digest string) ([]byte, error) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size || text != strings.ToLower(text) {
		return nil, fmt.Errorf("%q is not a policy digest", digest)
	}
	b, err := r.folder.read(policiesFolder+"/"+text+policySuffix, maxArchive)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); sum != [sha256.Size]byte(raw) {
		return nil, fmt.Errorf("%s does not have its digest", text+policySuffix)
	}
	return b, nil
}
