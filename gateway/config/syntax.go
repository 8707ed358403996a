package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// maxSearched bounds the search for the line of a syntax error, in bytes parsed: a moment, whatever the file.
const maxSearched = 16 << 20

// documents parses every document of a YAML stream.
func documents(data []byte) ([]*yaml.Node, error) {
	var all []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		n := new(yaml.Node)
		err := decoder.Decode(n)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, n)
	}
}

// syntaxProblem finds where a stream stops being YAML. The parser names the line where the surrounding block began or
// none at all, so the last beginning of the file that parses is looked for: the line after it is the one to look at.
func syntaxProblem(file string, data []byte, err error) Problem {
	said, text := parserLine(err)
	lines := bytes.SplitAfter(data, []byte("\n"))
	line := min(said, len(lines))
	searched := 0
	for end := consumed(lines); end > 0 && searched < maxSearched; end-- {
		beginning := bytes.Join(lines[:end-1], nil)
		if _, err := documents(beginning); err == nil {
			line = end
			break
		}
		searched += len(beginning)
	}
	return Problem{File: file, Line: line, Column: indentation(lines[line-1]) + 1, Text: "not valid YAML: " + text}
}

var parserMessage = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)

// parserLine takes the position out of the parser's message, which has no other form.
func parserLine(err error) (line int, text string) {
	m := parserMessage.FindStringSubmatch(err.Error())
	if m == nil {
		return 1, err.Error()
	}
	line, _ = strconv.Atoi(m[1])
	return max(line, 1), m[2]
}

// consumed counts the lines the parser asks for before it fails.
func consumed(lines [][]byte) int {
	feed := &lineFeed{lines: lines}
	decoder := yaml.NewDecoder(feed)
	for {
		if err := decoder.Decode(new(yaml.Node)); err != nil {
			return feed.given
		}
	}
}

// lineFeed hands out a line at a time.
type lineFeed struct {
	lines [][]byte
	given int
	rest  []byte
}

func (f *lineFeed) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		if f.given == len(f.lines) {
			return 0, io.EOF
		}
		f.rest = f.lines[f.given]
		f.given++
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func indentation(line []byte) int {
	trimmed := bytes.TrimLeft(line, " ")
	if len(bytes.TrimSpace(trimmed)) == 0 {
		return 0
	}
	return len(line) - len(trimmed)
}
