// Vercel's AI SDK over Responses, its default for OpenAI: prints what came, as JSON. Arguments: base URL, model, and
// whether the server keeps what was said (the SDK then names items by id instead of sending them).
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [baseURL, name, isStored] = process.argv.slice(2);
const model = createOpenAI({ baseURL, apiKey: "unused" }).responses(name);
const providerOptions = { openai: { store: isStored === "true" } };
const asked = [];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const get_weather = tool({
  description: "The weather in a city",
  inputSchema: jsonSchema(parameters),
  execute: async ({ city }) => {
    asked.push(city);
    return `sunny in ${city}`;
  },
});
const request = {
  model,
  providerOptions,
  maxRetries: 0,
  tools: { get_weather },
  stopWhen: stepCountIs(5),
  prompt: "What is the weather in Paris? [[sim:steps=2]]",
};

async function told(result) {
  const [text, steps, finish] = await Promise.all([result.text, result.steps, result.finishReason]);
  const bodies = steps.slice(1).map((step) => step.request.body);
  const inputs = bodies.map((body) => (typeof body === "string" ? JSON.parse(body) : body).input);
  const out = { text, finish, steps: steps.length, asked: [...asked] };
  out.named = inputs.flat().filter((item) => item.type === "item_reference").length;
  asked.length = 0;
  return out;
}

const unary = await told(await generateText(request));
const stream = await told(streamText(request));
const schema = jsonSchema({
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
});
const person = await generateText({ model, providerOptions, output: Output.object({ schema }), prompt: "Ann is 30" });
console.log(JSON.stringify({ unary, stream, person: person.output }));
