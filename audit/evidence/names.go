package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"sallyport/audit"
)

// What one bundle may hold. A writer keeps to it, and a reader believes nothing else.
const (
	maxFiles     = 100_000
	maxDirectory = 16 << 20 // bytes of the zip's directory
	maxManifest  = 64 << 20
	maxNote      = 64 << 10

	// partSize is how many bytes of records go into one file, and partRecords how many records: small enough to be
	// handled in memory, several at once.
	partSize    = 8 << 20
	partRecords = 1 << 16

	maxPart       = partSize + audit.MaxRecord + 1
	maxMatches    = partRecords * 44
	maxCheckpoint = 64 << 10
	maxProof      = 64 << 10
	maxPolicy     = 256 << 20
	maxText       = 4 << 20 // README, summary, schema
)

var (
	logName    = `(` + audit.DecisionLog + `|` + audit.ControlLog + `)`
	partPath   = regexp.MustCompile(`^records/` + logName + `/[0-9]{20}\.jsonl$`)
	matchPath  = regexp.MustCompile(`^matches/` + logName + `/[0-9]{20}\.csv$`)
	checkPath  = regexp.MustCompile(`^checkpoints/` + logName + `$`)
	proofPath  = regexp.MustCompile(`^proofs/` + logName + `\.json$`)
	policyPath = regexp.MustCompile(`^policies/[0-9a-f]{64}\.tar$`)
)

func partName(log string, first uint64) string {
	return fmt.Sprintf("records/%s/%020d.jsonl", log, first)
}
func matchesName(log string, first uint64) string {
	return fmt.Sprintf("matches/%s/%020d.csv", log, first)
}
func checkpointName(log string) string { return "checkpoints/" + log }
func proofName(log string) string      { return "proofs/" + log + ".json" }

// policyName is the file of a digest, which may come from a record: nothing but a digest passes.
func policyName(digest string) (string, error) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size || text != strings.ToLower(text) {
		return "", fmt.Errorf("%q is not a policy digest", digest)
	}
	return "policies/" + text + ".tar", nil
}

// limitOf is how large a file of that name may be; 0 when no bundle holds one. The names it knows are the only ones that
// are ever looked at, and none of them leads anywhere else when it is unpacked.
func limitOf(name string) int64 {
	switch {
	case partPath.MatchString(name):
		return maxPart
	case matchPath.MatchString(name):
		return maxMatches
	case checkPath.MatchString(name):
		return maxCheckpoint
	case proofPath.MatchString(name):
		return maxProof
	case policyPath.MatchString(name):
		return maxPolicy
	}
	switch name {
	case ManifestName:
		return maxManifest
	case NoteName:
		return maxNote
	case ReadmeName, SummaryName, SchemaName:
		return maxText
	}
	return 0
}
