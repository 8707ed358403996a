package bundle

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// Manifest is what we read and write of Open Policy Agent's .manifest.
type Manifest struct {
	Revision string   `json:"revision"`           // usually a commit
	Roots    []string `json:"roots,omitempty"`    // what the bundle is about; everything for ours
	Metadata Metadata `json:"metadata,omitempty"` // nobody else reads ours
}

// Metadata is the part of a manifest that is free for programs; we use one member of it.
type Metadata map[string]any

const (
	reviewKey = "sallyport_review"
	maxReview = 100
)

// SetReview names the review of the change that the bundle brings, by its digest.
func (m *Manifest) SetReview(digest string) {
	if m.Metadata == nil {
		m.Metadata = Metadata{}
	}
	m.Metadata[reviewKey] = digest
}

// Review is the digest of the review that the bundle names, if it does.
func (m *Manifest) Review() string {
	text, _ := m.Metadata[reviewKey].(string)
	return text[:min(len(text), maxReview)]
}

var revisionText = regexp.MustCompile(`^[\x21-\x7e]{0,100}$`)

// Manifest is the bundle's; the zero one if there is none.
func (f Files) Manifest() (*Manifest, error) {
	m := new(Manifest)
	text, there := f[ManifestName]
	if !there {
		return m, nil
	}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestName, err)
	}
	if !revisionText.MatchString(m.Revision) {
		return nil, fmt.Errorf("%s: revision %q: up to 100 printable ASCII characters without blanks", ManifestName, m.Revision)
	}
	return m, nil
}

// SetManifest replaces the manifest.
func (f Files) SetManifest(m *Manifest) error {
	if !revisionText.MatchString(m.Revision) {
		return fmt.Errorf("revision %q: up to 100 printable ASCII characters without blanks", m.Revision)
	}
	text, err := json.Marshal(m)
	if err == nil {
		f[ManifestName] = append(text, '\n')
	}
	return err
}
