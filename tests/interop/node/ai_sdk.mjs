// Vercel's AI SDK against a gateway: prints what came, as JSON. Arguments: base URL, model, provider.
// Providers: compatible, google (the compatible one under that name echoes thought signatures), openai.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [baseURL, name, provider] = process.argv.slice(2);
const common = { baseURL, apiKey: "unused" };
const model =
  provider === "openai"
    ? createOpenAI(common).chat(name)
    : createOpenAICompatible({
        ...common,
        name: provider === "google" ? "google" : "agproxy",
        includeUsage: true,
        supportsStructuredOutputs: true,
      })(name);
const asked = [];
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const get_weather = tool({
  description: "The weather in a city",
  inputSchema: jsonSchema(city),
  execute: async ({ city }) => {
    asked.push(city);
    return `sunny in ${city}`;
  },
});
const request = { model, maxRetries: 0, tools: { get_weather }, stopWhen: stepCountIs(5) };
const prompt = "What is the weather in Paris and London? [[sim:steps=2]]";

async function told(result) {
  const [text, steps, finish, usage] = await Promise.all([
    result.text,
    result.steps,
    result.finishReason,
    result.totalUsage,
  ]);
  const out = { text, finish, steps: steps.length, total: usage.totalTokens, asked: [...asked] };
  out.thoughts = steps.some((step) => step.reasoningText);
  asked.length = 0;
  return out;
}

async function parts(text) {
  const result = streamText({ model, maxRetries: 0, prompt: text, onError: () => {} });
  const found = {};
  for await (const part of result.fullStream) {
    if (part.type === "error") found.error = part.error.message;
    if (part.type === "finish") found.finish = part.finishReason;
  }
  return found;
}

const person = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
const output = Output.object({ schema: jsonSchema(person) });
const structured = await generateText({ model, maxRetries: 0, output, prompt: "Ada is 36" });

console.log(
  JSON.stringify({
    unary: await told(await generateText({ ...request, prompt })),
    stream: await told(streamText({ ...request, prompt })),
    cut: await parts("Hello [[sim:cut]]"),
    blocked: await parts("Hello [[sim:blocked]]"),
    person: structured.output,
  }),
);
