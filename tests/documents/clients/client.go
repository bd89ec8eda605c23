// The documents' Go client (era-http-server-mode.txt): client BASE
package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
)

type ERAAgentClient struct {
	BaseURL string
}

func NewClient(baseURL string) *ERAAgentClient {
	return &ERAAgentClient{BaseURL: baseURL}
}

func (c *ERAAgentClient) Execute(code, language string) (map[string]interface{}, error) {
	payload := map[string]interface{}{
		"code":     code,
		"language": language,
	}
	data, _ := json.Marshal(payload)
	resp, err := http.Post(
		c.BaseURL+"/api/execute",
		"application/json",
		bytes.NewBuffer(data),
	)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var result map[string]interface{}
	json.NewDecoder(resp.Body).Decode(&result)
	return result, nil
}

func main() {
	client := NewClient(os.Args[1])
	result, err := client.Execute("print('Hello!')", "python")
	if err != nil {
		panic(err)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}
